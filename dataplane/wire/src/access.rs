//! What a session may do with which documents.

/// From least to most; each includes those before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Access {
    /// See presence and publish one's own; no content.
    Presence = 1,
    /// Read the document.
    Read = 2,
    /// Edit it, name versions of it, read its past.
    Write = 3,
    /// Delete it.
    Admin = 4,
}

impl Access {
    /// From its number on the wire.
    #[must_use]
    pub const fn from_u8(value: u8) -> Option<Self> {
        match value {
            1 => Some(Self::Presence),
            2 => Some(Self::Read),
            3 => Some(Self::Write),
            4 => Some(Self::Admin),
            _ => None,
        }
    }
}

/// Access to the documents that a pattern names: an id, or a prefix that ends in `*`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Grant {
    /// A document id, or a prefix and `*`.
    pub pattern: String,
    /// What may be done.
    pub access: Access,
}

impl Grant {
    /// Whether the pattern names `document`.
    #[must_use]
    pub fn names(&self, document: &str) -> bool {
        match self.pattern.strip_suffix('*') {
            Some(prefix) => document.starts_with(prefix),
            None => document == self.pattern,
        }
    }
}

/// The most that any of `grants` allows on `document`.
#[must_use]
pub fn access_to(grants: &[Grant], document: &str) -> Option<Access> {
    grants.iter().filter(|grant| grant.names(document)).map(|grant| grant.access).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_reaches_a_document_that_it_does_not_name() {
        let grant = |pattern: &str, access| Grant { pattern: pattern.to_owned(), access };
        let grants = [grant("team/*", Access::Read), grant("team/plan", Access::Write)];
        assert_eq!(access_to(&grants, "team/plan"), Some(Access::Write));
        assert_eq!(access_to(&grants, "team/plan2"), Some(Access::Read));
        assert_eq!(access_to(&grants, "teams"), None);
        assert_eq!(access_to(&[grant("*", Access::Presence)], "x"), Some(Access::Presence));
    }
}
