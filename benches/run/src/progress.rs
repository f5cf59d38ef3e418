//! How far a run is: a bar that is rewritten on a terminal, a line for each turn elsewhere.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Cells of the bar.
const BAR: usize = 20;
/// A line that wraps cannot be taken back, and no terminal is narrower.
const WIDTH: usize = 79;

/// Progress over a known number of turns, on standard error.
pub(crate) struct Progress {
    turn: usize,
    turns: usize,
    begin: Instant,
    terminal: bool,
}

impl Progress {
    /// Nothing done of so many.
    pub(crate) fn new(turns: usize) -> Self {
        Self {
            turn: 0,
            turns,
            begin: Instant::now(),
            terminal: std::io::stderr().is_terminal(),
        }
    }

    /// The next turn begins.
    pub(crate) fn next(&mut self, what: &str) {
        let line = line(self.turn, self.turns, self.begin.elapsed(), what);
        self.turn += 1;
        let mut err = std::io::stderr().lock();
        // Progress that cannot be shown is no reason to stop measuring.
        let _ = match self.terminal {
            true => write!(err, "\r\x1b[K{line}"),
            false => writeln!(err, "[{}/{}] {what}", self.turn, self.turns),
        };
        let _ = err.flush();
    }

    /// A line that stays.
    pub(crate) fn tell(&self, what: &str) {
        self.end();
        eprintln!("run: {what}");
    }

    /// Takes the bar away.
    pub(crate) fn end(&self) {
        if self.terminal {
            eprint!("\r\x1b[K");
        }
    }
}

/// The bar after `done` of `turns`, with what is left at the pace so far.
fn line(done: usize, turns: usize, passed: Duration, what: &str) -> String {
    let part = done as f64 / turns.max(1) as f64;
    let cells = (part * BAR as f64) as usize;
    let (full, rest) = ("#".repeat(cells), "-".repeat(BAR - cells));
    // A pace needs a few turns.
    let left = if done < 3 {
        String::new()
    } else {
        let left = passed.mul_f64((turns - done) as f64 / done as f64);
        format!(" {} left", clock(left))
    };
    let text = format!("[{full}{rest}] {done}/{turns}{left}  {what}");
    text.chars().take(WIDTH).collect()
}

fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_fills_and_tells_what_is_left() {
        let minute = Duration::from_secs(60);
        assert_eq!(
            line(5, 20, minute, "P1 tcp"),
            "[#####---------------] 5/20 3:00 left  P1 tcp"
        );
        assert_eq!(
            line(0, 20, Duration::ZERO, "P1"),
            "[--------------------] 0/20  P1"
        );
        let full = line(20, 20, minute, "P1");
        assert!(full.starts_with("[####################] 20/20"), "{full}");
    }

    #[test]
    fn a_long_name_does_not_wrap_the_line() {
        assert_eq!(line(5, 20, Duration::ZERO, &"x".repeat(200)).len(), WIDTH);
    }
}
