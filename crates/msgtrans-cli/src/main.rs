//! The `msgtrans` command: the library on the command line, with its demonstration.
#![forbid(unsafe_code)]

mod cert;
mod completions;
mod connect;
mod demo;
mod failure;
mod listen;
mod manual;
mod output;
mod request;
mod send;
mod serve;

use std::num::NonZero;
use std::process::ExitCode;
use std::thread;

use clap::{CommandFactory, Parser, Subcommand};
use tokio::runtime::Builder;

use crate::failure::Failure;
use crate::output::Output;

/// One business code, any protocol: serve, try and measure MsgTrans endpoints.
#[derive(Debug, Parser)]
#[command(name = "msgtrans", version, after_help = NOTES)]
struct Cli {
    /// Print JSON objects, one a line, instead of text
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

const NOTES: &str = "\
URLs are tcp://host:port, tls://host:port, ws://host:port/path, wss://host:port/path, quic://host:port and unix:///path;\n\
options follow a question mark, as in \
quic://host:port?pin=sha256/...

Data goes to standard output, diagnostics to standard error. Exit codes: 0 done, 1 failed, 2 used wrongly.
Environment: RUST_LOG chooses what is logged (warn by default), NO_COLOR turns colours off.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run one server on every protocol, check that each does its job, and print how fast
    Demo(demo::Args),
    /// Serve until SIGTERM or Ctrl-C
    Serve(serve::Args),
    /// Send one message
    Send(send::Args),
    /// Make one request and print the response
    Request(request::Args),
    /// Print messages as they arrive
    Listen(listen::Args),
    /// Write a development certificate and its key; print its pin
    Cert(cert::Args),
    /// Print the script with which a shell completes this command
    Completions(completions::Args),
    /// Print the manual page, in roff
    Man,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let output = Output::new(cli.json);
    output.init_log();
    match run(cli.command, output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(&output),
    }
}

fn run(command: Command, output: Output) -> Result<(), Failure> {
    let (asked, timers) = match &command {
        // Then the server's threads are its own, and this runtime waits for its end.
        Command::Serve(args) if args.thread_per_core.is_some() => {
            (Some(NonZero::<u16>::MIN), false)
        }
        Command::Serve(args) => (args.threads, args.needs_timers()),
        _ => (None, true),
    };
    let processors = || thread::available_parallelism().map_or(1, NonZero::get);
    // One thread needs no scheduler for many, which looks for work to steal and reads the clock around each turn.
    let mut builder = if asked.map_or_else(processors, |threads| threads.get().into()) == 1 {
        Builder::new_current_thread()
    } else {
        Builder::new_multi_thread()
    };
    if let Some(threads) = asked {
        builder.worker_threads(threads.get().into());
    }
    if timers {
        builder.enable_time();
    }
    let runtime = builder
        .enable_io()
        .build()
        .map_err(|error| Failure::failed(error).context("cannot start the runtime"))?;
    // As a task, where the sessions are: the thread that blocks here would be woken for each of their answers.
    let task = runtime.spawn(async move {
        match command {
            Command::Demo(args) => demo::run(args, &output).await,
            Command::Serve(args) => serve::run(args, &output).await,
            Command::Send(args) => send::run(args, &output).await,
            Command::Request(args) => request::run(args, &output).await,
            Command::Listen(args) => listen::run(args, &output).await,
            Command::Cert(args) => cert::run(&args, &output),
            Command::Completions(args) => completions::run(&args, Cli::command(), &output),
            Command::Man => manual::run(Cli::command(), &output),
        }
    });
    let result = runtime
        .block_on(task)
        .unwrap_or_else(|error| Err(Failure::failed(error).context("the command did not end")));
    // What still runs (a name that resolves slowly, a read of standard input) is not waited for.
    runtime.shutdown_background();
    result
}
