//! The built command as its users meet it: arguments in; lines, signals and exit codes out.

mod about;
mod cert;
mod command;
mod demo;
mod killed;
mod listen;
mod serve;
mod usage;
