//! One resilient session: connect, request, reconnect.
