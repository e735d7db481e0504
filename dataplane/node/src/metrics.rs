//! The node's figures in Prometheus' text format.

use std::fmt::Write;

use crate::state::{NodeState, ShardState};

/// One line per shard and figure: `aetherflow_NAME{shard="N"} VALUE`; counters end in `_total`.
pub(crate) fn render(state: &NodeState) -> String {
    let mut names: Vec<(&str, bool)> =
        state.shards.iter().flat_map(figures).map(|(name, gauge, _)| (name, gauge)).collect();
    names.sort_unstable();
    names.dedup();
    let mut text = String::new();
    for (name, is_gauge) in names {
        let (kind, end) = if is_gauge { ("gauge", "") } else { ("counter", "_total") };
        let _ = writeln!(text, "# TYPE aetherflow_{name}{end} {kind}");
        for (shard, state) in state.shards.iter().enumerate() {
            for (_, _, value) in figures(state).filter(|(held, _, _)| *held == name) {
                let _ = writeln!(text, "aetherflow_{name}{end}{{shard=\"{shard}\"}} {value}");
            }
        }
    }
    text
}

fn figures(shard: &ShardState) -> impl Iterator<Item = (&'static str, bool, u64)> {
    shard.figures.iter().map(|figure| (figure.name, figure.is_gauge, figure.value))
}

#[cfg(test)]
mod tests {
    use shard::Figure;

    use super::*;

    #[test]
    fn a_figure_of_the_second_shard_is_missing() {
        let mut state = NodeState::new(2);
        state.shards[0].figures = vec![Figure::counter("ops_logged", 3), Figure::gauge("documents", 1)];
        state.shards[1].figures = vec![Figure::counter("ops_logged", 4)];
        let expected = "# TYPE aetherflow_documents gauge\n\
            aetherflow_documents{shard=\"0\"} 1\n\
            # TYPE aetherflow_ops_logged_total counter\n\
            aetherflow_ops_logged_total{shard=\"0\"} 3\n\
            aetherflow_ops_logged_total{shard=\"1\"} 4\n";
        assert_eq!(render(&state), expected);
    }
}
