//! The msgtrans command.
fn main() {}
