//! Many sessions: listeners, admission, broadcast, drain.
