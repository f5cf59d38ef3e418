//! Poll-based actors: lanes with budgets, mailboxes, timers, supervision, event bus.
