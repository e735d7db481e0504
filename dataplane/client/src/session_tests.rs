//! Tests of the document session.

use super::*;

struct Model {
    session: DocumentSession,
    events: EventQueue,
    stats: ClientStats,
}

impl Model {
    fn new(kind: DocumentKind) -> Self {
        let spec = JoinSpec {
            handle: 3,
            id: "notes".to_owned(),
            kind,
            content: true,
            pushes_missing: false,
            state_vector: Bytes::new(),
            state_bytes_max: 1_000,
        };
        Self {
            session: DocumentSession::new(spec),
            events: EventQueue::new(1 << 20),
            stats: ClientStats::default(),
        }
    }

    fn op(&mut self, counter: u64) {
        self.session.push_op(UnackedOp { counter, message: Bytes::from(counter.to_string()), cost: 1 });
    }

    fn join(&mut self) -> Option<ResumePoint> {
        match Client::decode(&self.session.poll_join()).unwrap() {
            Client::Join(join) => join.resume,
            other => panic!("{other:?}"),
        }
    }

    fn handle(&mut self, message: &Server<'_>) -> Outcome {
        self.session.handle_message(Time::ZERO, message, &mut self.events, &mut self.stats)
    }

    fn joined(&mut self, incarnation: u64, sequence: u64, state_bytes: u64) -> Outcome {
        self.joined_with(incarnation, sequence, state_bytes, 0)
    }

    fn joined_with(
        &mut self,
        incarnation: u64,
        sequence: u64,
        state_bytes: u64,
        writer_counter: u64,
    ) -> Outcome {
        self.handle(&Server::Joined(Joined {
            handle: 3,
            document: 8,
            incarnation,
            sequence,
            state_sequence: if state_bytes > 0 { sequence } else { 0 },
            writer_counter,
            state_bytes,
            state_vector: &[],
        }))
    }

    /// The node is gone, and there again as another run that has the writer's ops up to a counter.
    fn crash(&mut self, incarnation: u64, writer_counter: u64) {
        self.session.handle_disconnect(&mut self.events);
        self.join();
        self.joined_with(incarnation, 0, 0, writer_counter);
    }

    /// The counters of what is sent; the model's own ops say theirs in words.
    fn sent_counters(&mut self) -> Vec<u64> {
        let mut sent = Vec::new();
        while let Some(message) = self.session.next_op(Time::ZERO) {
            sent.push(match Client::decode(message) {
                Ok(Client::Op { counter, .. }) => counter,
                _ => std::str::from_utf8(message).unwrap().parse().unwrap(),
            });
            self.session.mark_sent();
        }
        sent
    }

    fn others_op(&mut self, sequence: u64) {
        self.handle(&Server::Op { document: 8, sequence, payload: b"x" });
    }

    fn sent(&mut self, now: Time) -> Vec<String> {
        let mut sent = Vec::new();
        while let Some(message) = self.session.next_op(now) {
            sent.push(String::from_utf8(message.to_vec()).unwrap());
            self.session.mark_sent();
        }
        sent
    }

    fn seen(&mut self) -> Vec<String> {
        let mut out = Vec::new();
        self.events.drain_into(&mut out);
        out.iter()
            .map(|event| match event {
                DocumentEvent::Joined { sequence, state_bytes, resumed, .. } => {
                    format!("joined {sequence} {state_bytes} {resumed}")
                }
                DocumentEvent::CaughtUp => "caught up".to_owned(),
                DocumentEvent::State(bytes) => format!("state {}", bytes.len()),
                DocumentEvent::Op { sequence, .. } => format!("op {sequence}"),
                DocumentEvent::Durable { up_to_counter, .. } => format!("durable {up_to_counter}"),
                DocumentEvent::Rejected { counter, .. } => format!("rejected {counter}"),
                DocumentEvent::Presence(entries) => format!("presence {}", entries.len()),
                DocumentEvent::Disconnected => "disconnected".to_owned(),
                DocumentEvent::Reconnected => "reconnected".to_owned(),
                DocumentEvent::Closed { code, .. } => format!("closed {code}"),
            })
            .collect()
    }
}

#[test]
fn an_op_is_sent_before_the_join_is_answered_or_lost_with_the_connection() {
    let mut model = Model::new(DocumentKind::Yjs);
    model.op(1);
    assert_eq!(model.sent(Time::ZERO), [""; 0]);
    assert_eq!(model.join(), None);
    assert_eq!(model.sent(Time::ZERO), [""; 0]);
    assert_eq!(model.joined(1, 0, 0).effect, Some(Effect::Joined { document: 8 }));
    assert_eq!(model.sent(Time::ZERO), ["1"]);
    model.session.handle_disconnect(&mut model.events);
    model.op(2);
    model.join();
    model.joined(1, 0, 0);
    assert_eq!(model.sent(Time::ZERO), ["1", "2"]);
    let outcome = model.handle(&Server::Ack { handle: 3, counter: 2, sequence: 2 });
    assert_eq!(outcome.released, 2);
    assert!(model.session.is_flushed());
    let told = [
        "joined 0 0 false",
        "caught up",
        "disconnected",
        "reconnected",
        "joined 0 0 true",
        "caught up",
        "durable 2",
    ];
    assert_eq!(model.seen(), told);
}

#[test]
fn a_resumed_document_repeats_or_skips_ops() {
    let mut model = Model::new(DocumentKind::Yjs);
    model.join();
    model.joined(1, 0, 0);
    model.others_op(1);
    model.others_op(4);
    model.session.handle_disconnect(&mut model.events);
    assert_eq!(model.join(), Some(ResumePoint { incarnation: 1, sequence: 4 }));
    model.joined(1, 6, 0);
    for sequence in [4, 5, 6] {
        model.others_op(sequence);
    }
    let told =
        ["joined 0 0 false", "caught up", "op 1", "op 4", "disconnected", "reconnected", "joined 6 0 true"];
    assert_eq!(model.seen(), [&told[..], &["op 5", "op 6", "caught up"]].concat());
    assert_eq!(model.stats.ops_duplicate, 1);
}

#[test]
fn ops_after_a_crash_of_the_node_are_taken_for_old_ones() {
    let mut model = Model::new(DocumentKind::Yjs);
    model.join();
    model.joined(1, 0, 0);
    model.others_op(9);
    model.session.handle_disconnect(&mut model.events);
    model.join();
    model.joined(2, 7, 5);
    model.handle(&Server::State { document: 8, bytes: b"abc" });
    model.handle(&Server::State { document: 8, bytes: b"de" });
    model.others_op(8);
    assert_eq!(model.seen()[4..], ["reconnected", "joined 7 5 false", "state 5", "caught up", "op 8"]);
}

#[test]
fn an_opaque_log_is_replayed_to_who_has_it() {
    let mut model = Model::new(DocumentKind::Opaque);
    model.join();
    model.joined(1, 2, 0);
    model.others_op(1);
    model.others_op(2);
    model.session.handle_disconnect(&mut model.events);
    model.join();
    model.joined(2, 3, 0);
    for sequence in 1..=3 {
        model.others_op(sequence);
    }
    assert_eq!(model.seen()[4..], ["disconnected", "reconnected", "joined 3 0 true", "op 3", "caught up"]);
}

#[test]
fn a_state_cut_off_by_a_lost_connection_counts_as_seen() {
    let mut model = Model::new(DocumentKind::Yjs);
    model.join();
    model.joined(1, 7, 5);
    model.handle(&Server::State { document: 8, bytes: b"abc" });
    model.others_op(8);
    model.session.handle_disconnect(&mut model.events);
    assert_eq!(model.join(), None, "a resume would leave the state out");
}

#[test]
fn an_op_that_is_refused_for_the_moment_is_overtaken_or_given_up() {
    let mut model = Model::new(DocumentKind::Opaque);
    model.join();
    model.joined(1, 0, 0);
    (1..=3).for_each(|counter| model.op(counter));
    model.sent(Time::ZERO);
    let busy = Server::Reject { handle: 3, counter: 2, code: Code::LogBusy, retry_after_ms: 5, text: "" };
    let until = Time::from_us(5_000);
    assert_eq!(model.handle(&busy).effect, Some(Effect::PausedUntil(until)));
    assert_eq!(model.sent(Time::ZERO), [""; 0]);
    assert_eq!(model.sent(until), ["2", "3"]);
    let bad =
        Server::Reject { handle: 3, counter: 3, code: Code::UndecodableUpdate, retry_after_ms: 0, text: "" };
    assert_eq!(model.handle(&bad).released, 1);
    assert_eq!(model.handle(&bad).released, 0);
    model.handle(&Server::Ack { handle: 3, counter: 2, sequence: 2 });
    assert!(model.session.is_flushed());
    assert_eq!(model.seen(), ["joined 0 0 false", "caught up", "rejected 3", "durable 2"]);
}

#[test]
fn an_op_is_given_up_that_comes_after_the_node_has_closed_the_document() {
    let mut model = Model::new(DocumentKind::Yjs);
    model.join();
    model.joined(1, 0, 0);
    (1..=2).for_each(|counter| model.op(counter));
    model.sent(Time::ZERO);
    let (code, text) = (Code::UnknownHandle, "");
    let failed = Server::Error { handle: 3, code: Code::StorageFailed, retry_after_ms: 20, text };
    assert_eq!(model.handle(&failed).effect, Some(Effect::RejoinAfter(Span::from_ms(20))));
    model.session.handle_disconnect(&mut model.events);
    model.join();
    for counter in 1..=2 {
        let late = Server::Reject { handle: 3, counter, code, retry_after_ms: 0, text };
        assert_eq!(model.handle(&late).effect, None);
    }
    model.joined(1, 0, 0);
    assert_eq!(model.sent(Time::ZERO), ["1", "2"]);
    let closed = Server::Reject { handle: 3, counter: 1, code, retry_after_ms: 0, text };
    assert_eq!(model.handle(&closed).effect, Some(Effect::Rejoin));
    assert!(!model.session.is_flushed());
}

#[test]
fn a_client_over_its_rate_comes_back_early_or_is_closed() {
    let mut model = Model::new(DocumentKind::Yjs);
    model.join();
    let over = Server::Error { handle: 3, code: Code::RateLimited, retry_after_ms: 300, text: "" };
    let after = Span::from_ms(300);
    assert_eq!(model.handle(&over).effect, Some(Effect::RejoinAfter(after)));
    model.joined(1, 0, 0);
    (1..=2).for_each(|counter| model.op(counter));
    model.sent(Time::ZERO);
    // What followed the refused op is refused with it, and may be sent sooner, were it alone.
    for (counter, code, retry_after_ms) in [(1, Code::RateLimited, 300), (2, Code::LogBusy, 20)] {
        model.handle(&Server::Reject { handle: 3, counter, code, retry_after_ms, text: "" });
    }
    assert_eq!(model.sent(Time::from_us(299_999)), [""; 0]);
    assert_eq!(model.sent(Time::from_us(300_000)), ["1", "2"]);
    let until = Time::ZERO + after;
    assert_eq!(model.handle(&over).effect, Some(Effect::PresencePausedUntil(until)), "presence was refused");
}

#[test]
fn a_node_makes_the_client_take_more_state_than_it_said() {
    let mut model = Model::new(DocumentKind::Yjs);
    model.join();
    assert!(matches!(
        model.joined(1, 0, 1_001).effect,
        Some(Effect::Closed { code: Code::LimitReached, .. })
    ));
    model.joined(1, 0, 2);
    let more = model.handle(&Server::State { document: 8, bytes: b"abc" });
    assert!(matches!(more.effect, Some(Effect::Closed { code: Code::Protocol, .. })));
}

#[test]
fn a_refused_join_is_repeated_for_ever_or_a_busy_node_given_up() {
    let mut model = Model::new(DocumentKind::Yjs);
    model.join();
    let refuse = |code| Server::Error { handle: 3, code, retry_after_ms: 0, text: "why" };
    assert_eq!(model.handle(&refuse(Code::Draining)).effect, Some(Effect::Rejoin));
    let closed = Effect::Closed { code: Code::Forbidden, text: "why".to_owned() };
    assert_eq!(model.handle(&refuse(Code::Forbidden)).effect, Some(closed));
    model.op(1);
    assert_eq!(model.session.handle_close(Code::Forbidden, "why", &mut model.events), 1);
    assert_eq!(model.seen(), ["closed AF0102 forbidden"]);
}

#[test]
fn a_move_on_advice_is_noticed_or_loses_ops() {
    let mut model = Model::new(DocumentKind::Yjs);
    assert_eq!(model.join(), None);
    model.joined(1, 4, 0);
    model.op(1);
    model.op(2);
    assert_eq!(model.sent(Time::ZERO), ["1", "2"]);
    model.others_op(7);
    let advice = model.handle(&Server::Advice { handle: 3, epoch: 1, shard: 1 });
    assert_eq!(advice.effect, Some(Effect::Advised { shard: 1 }));
    assert!(model.session.is_settled());
    while model.events.pop().is_some() {}

    model.session.handle_move();
    model.op(3);
    assert!(model.sent(Time::ZERO).is_empty(), "not before the owner has answered");
    assert_eq!(model.join(), Some(ResumePoint { incarnation: 1, sequence: 7 }));
    model.joined(1, 7, 0);
    assert_eq!(model.sent(Time::ZERO), ["1", "2", "3"]);
    assert_eq!(model.events.pop(), None, "the application need not know");

    // When the new connection is lost on the way, or cannot go on from there, it must.
    model.session.handle_move();
    model.join();
    model.session.handle_disconnect(&mut model.events);
    assert_eq!(model.events.pop(), Some(DocumentEvent::Disconnected));
    model.join();
    model.joined(1, 9, 10);
    assert_eq!(model.events.pop(), Some(DocumentEvent::Reconnected));
    assert!(matches!(model.events.pop(), Some(DocumentEvent::Joined { state_bytes: 10, .. })));
    assert!(!model.session.is_settled(), "the state is still to come");
}

#[test]
fn who_has_the_state_alone_is_told_that_there_is_no_more() {
    let mut model = Model::new(DocumentKind::Yjs);
    model.join();
    model.handle(&Server::Joined(Joined {
        handle: 3,
        document: 8,
        incarnation: 1,
        sequence: 6,
        state_sequence: 4,
        writer_counter: 0,
        state_bytes: 3,
        state_vector: &[],
    }));
    model.handle(&Server::State { document: 8, bytes: b"abc" });
    model.others_op(5);
    assert_eq!(model.seen(), ["joined 6 3 false", "state 3", "op 5"]);
    model.others_op(6);
    model.others_op(7);
    assert_eq!(model.seen(), ["op 6", "caught up", "op 7"]);
    // It goes on elsewhere from there.
    model.session.handle_disconnect(&mut model.events);
    model.join();
    model.joined(1, 7, 0);
    assert_eq!(model.seen(), ["disconnected", "reconnected", "joined 7 0 true", "caught up"]);
}

/// Whoever says what the node lacks, with an op under every other counter.
fn telling() -> Model {
    let mut model = Model::new(DocumentKind::Yjs);
    model.session.spec.pushes_missing = true;
    model.join();
    model.joined(1, 0, 0);
    model.session.push_missing(1, 1, b"");
    for counter in [12, 14, 16] {
        model.op(counter);
    }
    model
}

#[test]
fn own_ops_overtake_what_a_crash_has_taken() {
    let mut model = telling();
    assert_eq!(model.sent_counters(), [12, 14, 16]);
    model.crash(2, 12);
    assert_eq!(model.sent_counters(), [0; 0], "they may build on what is lost");
    model.session.push_missing(1, 18, b"to an earlier run");
    assert_eq!(model.sent_counters(), [0; 0]);
    model.session.push_missing(2, 20, b"missing");
    model.session.push_missing(2, 22, b"twice");
    assert_eq!(model.sent_counters(), [12, 13, 14, 16]);
    // The node had taken in what was given to it, or had lost that, too.
    for (incarnation, writer_counter, again) in [(3, 13, [12, 14, 15, 16]), (4, 12, [12, 13, 14, 16])] {
        model.crash(incarnation, writer_counter);
        model.session.push_missing(incarnation, 24, b"missing now");
        assert_eq!(model.sent_counters(), again, "run {incarnation}");
        assert_eq!(model.sent_counters(), [0; 0]);
    }
    model.handle(&Server::Ack { handle: 3, counter: 16, sequence: 4 });
    assert!(model.session.is_flushed());
    model.crash(5, 16);
    model.session.push_missing(5, 26, b"nothing own is left");
    assert_eq!(model.sent_counters(), [26]);
}

#[test]
fn a_node_that_has_lost_nothing_is_asked_about_or_waits_for_an_answer() {
    let mut model = telling();
    model.session.handle_disconnect(&mut model.events);
    model.join();
    model.joined(1, 0, 5);
    assert_eq!(model.sent_counters(), [12, 14, 16], "the same run");
    model.crash(2, 0);
    model.session.expect_no_answer();
    assert_eq!(model.sent_counters(), [12, 14, 16], "nobody is there to answer");
    model.crash(3, 0);
    assert_eq!(model.sent_counters(), [12, 14, 16]);
    let mut log = Model::new(DocumentKind::Opaque);
    log.session.spec.pushes_missing = true;
    log.join();
    log.joined(1, 0, 0);
    log.op(2);
    assert_eq!(log.sent_counters(), [2], "what an ordered log has shown is durable");
}
