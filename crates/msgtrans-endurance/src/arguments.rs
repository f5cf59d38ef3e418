//! [`Arguments`]: `--name value` pairs, each taken once and by name.

use std::fmt::Display;
use std::str::FromStr;

/// What has not been taken yet.
pub(crate) struct Arguments(Vec<(String, String)>);

impl Arguments {
    pub(crate) fn parse(words: &[String]) -> Result<Self, String> {
        let mut pairs = Vec::new();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let name = word
                .strip_prefix("--")
                .ok_or_else(|| format!("`{word}` is no option"))?;
            let value = words
                .next()
                .ok_or_else(|| format!("--{name} needs a value"))?;
            pairs.push((name.to_owned(), value.clone()));
        }
        Ok(Self(pairs))
    }

    /// The value of an option, or `default`.
    pub(crate) fn take<T: FromStr>(&mut self, name: &str, default: T) -> Result<T, String>
    where
        T::Err: Display,
    {
        let Some(at) = self.0.iter().position(|(known, _)| known == name) else {
            return Ok(default);
        };
        let (_, value) = self.0.remove(at);
        value
            .parse()
            .map_err(|error| format!("--{name} {value}: {error}"))
    }

    /// Refuses what nobody took.
    pub(crate) fn finish(self) -> Result<(), String> {
        match self.0.first() {
            Some((name, _)) => Err(format!("there is no option --{name}")),
            None => Ok(()),
        }
    }
}
