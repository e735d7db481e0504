use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Result<PathSpec, SpecError> {
    text.parse()
}

#[test]
fn a_wrong_key_is_refused_without_the_right_one() {
    let error = parse("delay=1ms los=1%").expect_err("refused");
    assert_eq!(error, SpecError::UnknownKey { key: "los".to_owned(), nearest: Some("loss") });
    assert!(error.to_string().contains("did you mean `loss`?"));
    let error = parse("wify").expect_err("refused");
    assert_eq!(error, SpecError::UnknownPreset { name: "wify".to_owned(), nearest: Some("wifi") });
    assert!(error.to_string().contains("transatlantic"));
    assert!(matches!(parse("zzzzzzzzzzzz=1"), Err(SpecError::UnknownKey { nearest: None, .. })));
}

#[test]
fn a_value_without_sense_is_taken() {
    for text in [
        "loss=1",
        "loss=101%",
        "loss=-1%",
        "loss=",
        "delay=10",
        "delay=10min",
        "delay=3601s",
        "delay=1e3ms",
        "rate=0",
        "rate=10mbps",
        "rate=99999gbit",
        "rate=1mbit queue=0b",
        "rate=1mbit queue=300mb",
        "rate=1mbit queue=100001packets",
        "policer=5mbit",
        "blackhole=1s",
        "blackhole=1s,2s,2s",
        "gilbert-elliott=1%",
        "gilbert-elliott=1%,0%",
        "gilbert-elliott=1%,2%,3%,4%,5%",
        "delay=1ms jitter=1ms jitter-reorders=true",
        "delay=1ms,loss=1%",
        "delay=99999999999999999999s",
    ] {
        assert!(matches!(parse(text), Err(SpecError::Value { .. })), "{text}: {:?}", parse(text));
    }
}

#[test]
fn a_contradiction_is_taken() {
    assert_eq!(parse("loss=1% loss=2%"), Err(SpecError::Twice { key: "loss" }));
    assert_eq!(parse("loss=1% up.loss=2%"), Err(SpecError::Twice { key: "loss" }));
    assert!(matches!(parse("loss=1% wifi"), Err(SpecError::PresetNotFirst { .. })));
    assert!(matches!(parse("queue=64kb"), Err(SpecError::Alone { key: "queue", .. })));
    assert!(matches!(parse("delay=1ms jitter=2ms"), Err(SpecError::Alone { key: "jitter", .. })));
    let mut one = |_: &str| Ok("1\n".to_owned());
    let both = PathSpec::parse("rate=1mbit trace=x", &mut one);
    assert_eq!(both, Err(SpecError::Exclusive { key: "trace", other: "rate" }));
    assert!(PathSpec::parse("up.rate=1mbit down.trace=x", &mut one).is_ok());
    assert!(matches!("wifi".parse::<LinkSpec>(), Err(SpecError::TwoDirections { .. })));
}

#[test]
fn a_trace_that_cannot_be_read_is_passed_over() {
    let unreadable = PathSpec::parse("trace=gone", &mut |_| Err("no such file".to_owned()));
    assert_eq!(
        unreadable.map_err(|error| error.to_string()),
        Err("cannot read the capacity trace gone: no such file".to_owned())
    );
    let broken = PathSpec::parse("trace=x", &mut |_| Ok("2\n1\n".to_owned()));
    assert!(matches!(broken, Err(SpecError::Trace { .. })));
    let fine = PathSpec::parse("trace=down.trace", &mut |_| Ok("1\n2\n".to_owned())).expect("a trace");
    assert_eq!(fine.to_string(), "trace=down.trace");
}

#[test]
fn a_word_changes_the_wrong_direction() {
    let spec = parse("cellular down.loss=2% up.rate=5mbit").expect("a network");
    let cellular = parse("cellular").expect("a network");
    assert_eq!(spec.up, LinkSpec { capacity: Capacity::BitsPerS(5_000_000), ..cellular.up });
    assert_eq!(spec.down, LinkSpec { loss: Probability::new(0.02).expect("possible"), ..cellular.down });
}

#[test]
fn units_are_mixed_up() {
    let spec: LinkSpec =
        "delay=1.5ms jitter=250us rate=2.5mbit queue=64kib policer=1gbit,2kb blackhole=1s,20ms"
            .parse()
            .expect("a link");
    assert_eq!((spec.delay, spec.jitter), (Span::from_us(1_500), Span::from_us(250)));
    assert_eq!(spec.capacity, Capacity::BitsPerS(2_500_000));
    assert_eq!(spec.queue, Some(QueueLimit::Bytes(65_536)));
    assert_eq!(spec.policer, Some(Policer { bits_per_s: 1_000_000_000, burst_bytes: 2_000 }));
    let (after, length) = (Span::from_ms(1_000), Span::from_ms(20));
    assert_eq!(spec.blackhole, Some(Blackhole { after, length, every: None }));
}

fn probabilities() -> impl Strategy<Value = Probability> {
    prop_oneof![Just(0.0), Just(1.0), 0.0..1.0].prop_map(|value| Probability::new(value).expect("possible"))
}

fn spans() -> impl Strategy<Value = Span> {
    prop_oneof![
        (0..3_600_u64).prop_map(|s| Span::from_ms(s * 1_000)),
        (0..3_600_000_000_u64).prop_map(Span::from_us)
    ]
}

prop_compose! {
    fn links()(
        (delay, jitter, jitter_reorders) in (spans(), spans(), any::<bool>()),
        (loss, duplicate, corrupt) in (probabilities(), probabilities(), probabilities()),
        chain in proptest::option::of([probabilities(), probabilities(), probabilities(), probabilities()]),
        reorder in proptest::option::of((probabilities(), spans())),
        rate in proptest::option::of(1..=RATE_BITS_PER_S_MAX),
        queue in proptest::option::of(prop_oneof![
            (1..=QUEUE_BYTES_MAX).prop_map(QueueLimit::Bytes),
            (1..=QUEUE_PACKETS_MAX).prop_map(QueueLimit::Packets),
        ]),
        policer in proptest::option::of((1..=RATE_BITS_PER_S_MAX, 1..=QUEUE_BYTES_MAX)),
        blackhole in proptest::option::of((spans(), spans(), proptest::option::of(spans()))),
    ) -> LinkSpec {
        LinkSpec {
            delay: delay.max(jitter),
            jitter,
            jitter_reorders: jitter_reorders && jitter > Span::ZERO,
            loss,
            gilbert_elliott: chain.and_then(|[good_to_bad, bad_to_good, loss_in_bad, loss_in_good]| {
                let is_left = good_to_bad == Probability::ZERO || bad_to_good > Probability::ZERO;
                is_left.then_some(GilbertElliott { good_to_bad, bad_to_good, loss_in_bad, loss_in_good })
            }),
            reorder: reorder.map(|(probability, delay)| Reorder { probability, delay }),
            duplicate,
            corrupt,
            capacity: rate.map_or(Capacity::Unlimited, Capacity::BitsPerS),
            queue: queue.filter(|_| rate.is_some()),
            policer: policer.map(|(bits_per_s, burst_bytes)| Policer { bits_per_s, burst_bytes }),
            blackhole: blackhole.map(|(after, length, every)| Blackhole {
                after,
                length,
                every: every.filter(|&every| every > length),
            }),
        }
    }
}

proptest! {
    #[test]
    fn a_printed_network_reads_back_as_another(up in links(), down in links()) {
        let both = PathSpec { up: up.clone(), down };
        prop_assert_eq!(both.to_string().parse(), Ok(both));
        prop_assert_eq!(up.to_string().parse(), Ok(up));
    }

    #[test]
    fn a_text_crashes_the_reader(text in "[a-z0-9.,=% -]{0,60}", key in 0..KEYS.len(), value in "[0-9a-z.,%]{0,12}") {
        let _ = parse(&text);
        let _ = parse(&format!("{}={value}", KEYS[key]));
    }
}
