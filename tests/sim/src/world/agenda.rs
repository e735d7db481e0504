//! What is to be done in a world of the transport.

use super::attacker::Injection;
use crate::scenario::Ending;
use netem::Direction;

#[derive(Debug)]
pub(super) enum Task {
    /// A client begins its next connection.
    Connect {
        client: usize,
    },
    /// A flow has something to say.
    Say {
        attempt: usize,
        flow: usize,
        tick: u32,
    },
    /// An application takes some of what was delivered in this direction.
    Eat {
        attempt: usize,
        direction: Direction,
    },
    End {
        attempt: usize,
        ending: Ending,
    },
    Incident {
        number: usize,
    },
    Inject(Box<Injection>),
    ForgeInitial,
    Heal,
    Inspect,
    /// Everything has been said and heard: everybody closes.
    CloseAll,
}
