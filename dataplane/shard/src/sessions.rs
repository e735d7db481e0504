//! Which connections a session has, so that revoking it ends them.

use std::collections::HashMap;

use quantum::ConnectionKey;
use wire::Guuid;

/// Both directions of the relation, kept in step.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    connections: HashMap<Guuid, Vec<ConnectionKey>>,
    session: HashMap<ConnectionKey, Guuid>,
}

impl Sessions {
    /// Notes an opened connection.
    pub(crate) fn insert(&mut self, session: Guuid, key: ConnectionKey) {
        self.connections.entry(session).or_default().push(key);
        self.session.insert(key, session);
    }

    /// Forgets a closed one.
    pub(crate) fn remove(&mut self, key: ConnectionKey) {
        let Some(session) = self.session.remove(&key) else { return };
        if let Some(keys) = self.connections.get_mut(&session) {
            keys.retain(|held| *held != key);
            if keys.is_empty() {
                self.connections.remove(&session);
            }
        }
    }

    /// Forgets all of a session's connections and names them.
    pub(crate) fn take(&mut self, session: Guuid) -> Vec<ConnectionKey> {
        let keys = self.connections.remove(&session).unwrap_or_default();
        for key in &keys {
            self.session.remove(key);
        }
        keys
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_connection_stays_known_to_its_session() {
        let (a, b) = (ConnectionKey::from_u64(1), ConnectionKey::from_u64(2));
        let session = Guuid::new(1, [1; 10]);
        let mut sessions = Sessions::default();
        sessions.insert(session, a);
        sessions.insert(session, b);
        sessions.remove(a);
        assert_eq!(sessions.take(session), [b]);
        assert!(sessions.connections.is_empty() && sessions.session.is_empty());
    }
}
