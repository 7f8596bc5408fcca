//! The effects of a protocol on other connections, as a test sees them.

use std::net::SocketAddr;

use crate::protocol::effects::{Command, Effect};
use crate::protocol::ident::ConnectionId;
use crate::protocol::slow_reader::SlowReader;

/// An effect of a protocol on another connection, named after the method of
/// [`Context`](crate::Context) or [`Connections`](crate::Connections) that queues it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum RecordedEffect {
    SendTo(ConnectionId, Vec<u8>),
    Publish(ConnectionId, Vec<u8>, SlowReader),
    Command(ConnectionId, Command),
    Monitor(ConnectionId),
    MonitorStop,
    Connect(ConnectionId, SocketAddr),
    ConnectDatagram(SocketAddr),
}

impl RecordedEffect {
    /// Converts `effect`, whose bytes are in `bytes`. `None`: a send that is rejected, a
    /// message, which is recorded by itself, or what concerns the loop alone.
    pub(super) fn from(effect: Effect, bytes: &[u8]) -> Option<RecordedEffect> {
        Some(match effect {
            Effect::Send(id, range, SlowReader::Queue) => {
                RecordedEffect::SendTo(id, bytes[range].to_vec())
            }
            Effect::Send(id, range, slow) => {
                RecordedEffect::Publish(id, bytes[range].to_vec(), slow)
            }
            Effect::SendOverflow(_)
            | Effect::EvictLargest
            | Effect::OpenWaker(_)
            | Effect::Message(..) => return None,
            Effect::Command(id, command) => RecordedEffect::Command(id, command),
            Effect::MonitorStop => RecordedEffect::MonitorStop,
            Effect::Monitor(id) => RecordedEffect::Monitor(id),
            Effect::Connect(connect) => RecordedEffect::Connect(connect.id, connect.address),
            Effect::ConnectDatagram(connect) => RecordedEffect::ConnectDatagram(connect.0),
        })
    }
}
