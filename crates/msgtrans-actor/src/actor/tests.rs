//! The order of a pass, who yields when, and what a panic does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::test_waker::Wakes;

/// Writes down what happens to it and answers as scripted: the lanes of each pass, then `Idle`.
#[derive(Default)]
struct Script {
    log: Vec<&'static str>,
    signalled: Arc<AtomicBool>,
    /// What a lane says when its name comes, once each, in this order.
    answers: Vec<(&'static str, Lane)>,
    panics_in: Vec<&'static str>,
    ends_on_panic: bool,
    heard: Option<String>,
}

impl Script {
    fn lane(&mut self, name: &'static str) -> Lane {
        self.log.push(name);
        if let Some(at) = self.panics_in.iter().position(|lane| *lane == name) {
            self.panics_in.remove(at);
            panic!("in {name}");
        }
        if self.heard.is_some() && self.ends_on_panic {
            return Lane::Done;
        }
        match self.answers.iter().position(|(lane, _)| *lane == name) {
            Some(at) => self.answers.remove(at).1,
            None => Lane::Idle,
        }
    }
}

impl Actor for Script {
    fn is_gathering(&self) -> bool {
        self.signalled.load(Ordering::Relaxed)
    }

    fn begin_pass(&mut self, _: &mut Context<'_>) {
        self.log.push("begin");
    }

    fn commands(&mut self, _: &mut Context<'_>) -> Lane {
        self.signalled.store(false, Ordering::Relaxed);
        self.lane("commands")
    }

    fn gather(&mut self, _: &mut Context<'_>) -> Lane {
        self.lane("gather")
    }

    fn inbound(&mut self, _: &mut Context<'_>) -> Lane {
        self.lane("inbound")
    }

    fn flush(&mut self, _: &mut Context<'_>) -> Lane {
        self.lane("flush")
    }

    fn end_pass(&mut self, _: &mut Context<'_>) {
        self.log.push("end");
    }

    fn panicked(&mut self, message: String) {
        self.heard = Some(message);
    }
}

const PASS: [&str; 6] = ["begin", "commands", "gather", "inbound", "flush", "end"];

fn poll(driver: &mut Driver<Script>, wakes: &Arc<Wakes>) -> Poll<()> {
    Pin::new(driver).poll(&mut Context::from_waker(&wakes.waker()))
}

fn answering(answers: &[(&'static str, Lane)]) -> Driver<Script> {
    Driver::new(Script {
        answers: answers.to_vec(),
        ..Script::default()
    })
}

#[test]
fn a_pass_is_commands_outbound_inbound_and_outbound_again() {
    let (mut driver, wakes) = (answering(&[]), Wakes::new());
    assert!(poll(&mut driver, &wakes).is_pending());
    assert_eq!(driver.actor().log, PASS);
    assert_eq!(wakes.count(), 0, "an idle actor waits to be woken");
}

#[test]
fn a_signalled_actor_yields_once_before_its_pass() {
    let (mut driver, wakes) = (answering(&[]), Wakes::new());
    let signalled = driver.actor().signalled.clone();
    signalled.store(true, Ordering::Relaxed);
    assert!(poll(&mut driver, &wakes).is_pending());
    assert!(driver.actor().log.is_empty());
    assert_eq!(wakes.count(), 1, "it comes back by itself");
    assert!(poll(&mut driver, &wakes).is_pending());
    assert_eq!(driver.actor().log, PASS);
    assert_eq!(wakes.count(), 1);
    // And again for the next signal.
    signalled.store(true, Ordering::Relaxed);
    assert!(poll(&mut driver, &wakes).is_pending());
    assert_eq!(driver.actor().log.len(), PASS.len());
}

#[test]
fn an_actor_that_nobody_signalled_runs_at_once() {
    let (mut driver, wakes) = (answering(&[]), Wakes::new());
    for passes in 1..4 {
        assert!(poll(&mut driver, &wakes).is_pending());
        assert_eq!(driver.actor().log.len(), passes * PASS.len());
    }
}

#[test]
fn a_busy_lane_makes_another_pass_in_which_every_lane_has_its_turn() {
    let (mut driver, wakes) = (answering(&[("inbound", Lane::Busy)]), Wakes::new());
    assert!(poll(&mut driver, &wakes).is_pending());
    assert_eq!(driver.actor().log, [PASS, PASS].concat());
    assert_eq!(wakes.count(), 0);
}

#[test]
fn an_actor_that_is_always_busy_lets_others_run() {
    let (mut driver, wakes) = (answering(&[("gather", Lane::Busy); 100]), Wakes::new());
    assert!(poll(&mut driver, &wakes).is_pending());
    assert_eq!(driver.actor().log.len(), PASSES_MAX * PASS.len());
    assert_eq!(wakes.count(), 1, "it comes back by itself");
}

#[test]
fn the_pass_ends_where_the_actor_does() {
    let (mut driver, wakes) = (answering(&[("gather", Lane::Done)]), Wakes::new());
    assert!(poll(&mut driver, &wakes).is_ready());
    assert_eq!(driver.actor().log, ["begin", "commands", "gather", "end"]);
}

#[test]
fn a_busy_lane_does_not_hide_that_another_is_done() {
    let answers = [("gather", Lane::Busy), ("flush", Lane::Done)];
    let (mut driver, wakes) = (answering(&answers), Wakes::new());
    assert!(poll(&mut driver, &wakes).is_ready());
}

#[test]
fn a_panic_ends_the_pass_and_the_actor_hears_of_it() {
    let mut driver = Driver::new(Script {
        panics_in: vec!["inbound"],
        ends_on_panic: true,
        ..Script::default()
    });
    assert!(poll(&mut driver, &Wakes::new()).is_ready());
    let actor = driver.actor();
    assert_eq!(actor.heard.as_deref(), Some("in inbound"));
    let ended = [
        "begin", "commands", "gather", "inbound", "end", "begin", "commands", "end",
    ];
    assert_eq!(actor.log, ended);
}

#[test]
fn a_second_panic_ends_the_actor_at_once() {
    let mut driver = Driver::new(Script {
        panics_in: vec!["inbound", "commands", "commands"],
        ..Script::default()
    });
    assert!(poll(&mut driver, &Wakes::new()).is_ready());
    assert_eq!(
        driver.actor().log,
        ["begin", "commands", "end", "begin", "commands", "end"]
    );
}

#[test]
fn every_kind_of_panic_has_words() {
    assert_eq!(panic_message(&"static"), "static");
    assert_eq!(panic_message(&"owned".to_owned()), "owned");
    assert_eq!(panic_message(&7), "a panic without words");
}

/// A task that has used up its share of the scheduler does not start a pass in which every resource would pretend to
/// be pending.
#[tokio::test]
async fn a_driver_without_budget_waits_for_its_next_turn() {
    while tokio::task::coop::has_budget_remaining() {
        tokio::task::coop::consume_budget().await;
    }
    let (mut driver, wakes) = (answering(&[]), Wakes::new());
    assert!(poll(&mut driver, &wakes).is_pending());
    assert!(driver.actor().log.is_empty());
    tokio::task::yield_now().await;
    assert_eq!(wakes.count(), 1, "its turn comes");
    assert!(poll(&mut driver, &wakes).is_pending());
    assert_eq!(driver.actor().log, PASS);
}
