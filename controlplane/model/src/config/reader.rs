//! One section of the file, read key by key: a key that nobody asked for is refused with the nearest that
//! somebody did.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::RangeInclusive;

use strsim::levenshtein;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, Place};

/// What is left of a section, and the keys asked for so far.
pub(super) struct Section<'t> {
    name: String,
    text: &'t str,
    line: usize,
    values: BTreeMap<String, (usize, DeValue<'t>)>,
    asked: Vec<&'static str>,
}

/// The line, from 1, on which byte `offset` lies.
pub(super) fn line_of(text: &str, offset: usize) -> usize {
    let end = offset.min(text.len());
    text.as_bytes()[..end].iter().filter(|&&byte| byte == b'\n').count() + 1
}

impl<'t> Section<'t> {
    /// The whole file.
    pub(super) fn parse(text: &'t str) -> Result<Self, ConfigError> {
        let table = DeTable::parse(text).map_err(|error| ConfigError::Syntax {
            line: line_of(text, error.span().map_or(0, |span| span.start)),
            message: error.message().to_owned(),
        })?;
        Ok(Self::new(String::new(), text, 1, table.into_inner()))
    }

    fn new(name: String, text: &'t str, line: usize, table: DeTable<'t>) -> Self {
        let entry = |(key, value): (Spanned<_>, Spanned<DeValue<'t>>)| {
            let line = line_of(text, key.span().start);
            let key: std::borrow::Cow<'t, str> = key.into_inner();
            (key.into_owned(), (line, value.into_inner()))
        };
        Self { name, text, line, values: table.into_iter().map(entry).collect(), asked: Vec::new() }
    }

    fn take(&mut self, key: &'static str) -> Option<(Place, DeValue<'t>)> {
        self.asked.push(key);
        let (line, value) = self.values.remove(key)?;
        Some((Place { line, section: self.name.clone(), key: key.to_owned() }, value))
    }

    /// The section `key` of this one; empty when the file has none.
    pub(super) fn section(&mut self, key: &'static str) -> Result<Self, ConfigError> {
        let name = if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) };
        match self.take(key) {
            None => Ok(Self::new(name, self.text, self.line, DeTable::new())),
            Some((place, DeValue::Table(table))) => Ok(Self::new(name, self.text, place.line, table)),
            Some((place, other)) => Err(wrong_type(place, "a section", &other)),
        }
    }

    /// Replaces `value` when the file has `key`.
    pub(super) fn string(&mut self, key: &'static str, value: &mut String) -> Result<(), ConfigError> {
        match self.take(key) {
            None => {}
            Some((_, DeValue::String(text))) => *value = text.into_owned(),
            Some((place, other)) => return Err(wrong_type(place, "a string", &other)),
        }
        Ok(())
    }

    /// Replaces `value` when the file has `key`.
    pub(super) fn boolean(&mut self, key: &'static str, value: &mut bool) -> Result<(), ConfigError> {
        match self.take(key) {
            None => {}
            Some((_, DeValue::Boolean(found))) => *value = found,
            Some((place, other)) => return Err(wrong_type(place, "true or false", &other)),
        }
        Ok(())
    }

    /// Replaces `value` when the file has `key`, which must lie within `range`.
    pub(super) fn integer<N>(
        &mut self,
        key: &'static str,
        value: &mut N,
        range: RangeInclusive<N>,
    ) -> Result<(), ConfigError>
    where
        N: Copy + Into<u64> + TryFrom<u64> + PartialOrd,
    {
        let Some((place, found)) = self.take(key) else { return Ok(()) };
        let DeValue::Integer(found) = found else { return Err(wrong_type(place, "an integer", &found)) };
        let number = u64::from_str_radix(found.as_str(), found.radix()).ok();
        match number.and_then(|number| N::try_from(number).ok()).filter(|number| range.contains(number)) {
            Some(number) => *value = number,
            None => {
                let (min, max) = ((*range.start()).into(), (*range.end()).into());
                return Err(ConfigError::Range { place, value: found.to_string(), min, max });
            }
        }
        Ok(())
    }

    /// Replaces `value` when the file has `key`, whose text `parse` must take.
    pub(super) fn parsed<T>(
        &mut self,
        key: &'static str,
        value: &mut T,
        expected: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<(), ConfigError> {
        let Some((place, found)) = self.take(key) else { return Ok(()) };
        let DeValue::String(text) = found else { return Err(wrong_type(place, "a string", &found)) };
        *value = parse(&text).ok_or_else(|| ConfigError::Invalid {
            place,
            value: text.into_owned(),
            expected: expected.to_owned(),
        })?;
        Ok(())
    }

    /// Replaces `value` when the file has `key`.
    pub(super) fn address(&mut self, key: &'static str, value: &mut SocketAddr) -> Result<(), ConfigError> {
        self.parsed(key, value, "an address and port such as 0.0.0.0:7400", |text| text.parse().ok())
    }

    /// Refuses what is left.
    pub(super) fn finish(self) -> Result<(), ConfigError> {
        let Some((key, (line, _))) = self.values.into_iter().min_by_key(|(_, (line, _))| *line) else {
            return Ok(());
        };
        let nearest = nearest(&key, &self.asked).map(ToOwned::to_owned);
        Err(ConfigError::UnknownKey { place: Place { line, section: self.name, key }, nearest })
    }
}

fn wrong_type(place: Place, expected: &'static str, found: &DeValue<'_>) -> ConfigError {
    ConfigError::Type { place, expected, found: found.type_str() }
}

/// The known key at the least edit distance, unless none is near enough to be what was meant.
fn nearest<'k>(key: &str, known: &[&'k str]) -> Option<&'k str> {
    let (distance, found) = known
        .iter()
        .map(|candidate| (levenshtein(key, candidate), *candidate))
        .min_by_key(|found| found.0)?;
    (distance <= key.len().max(found.len()) / 2).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_far_key_is_proposed_for_a_typo() {
        assert_eq!(levenshtein("kitten", "sitting"), 3);
        assert_eq!(levenshtein("", "abc"), 3);
        assert_eq!(nearest("shard", &["listen", "shards", "data_dir"]), Some("shards"));
        assert_eq!(nearest("zzzzzz", &["listen", "shards"]), None);
        assert_eq!(nearest("x", &[]), None);
    }
}
