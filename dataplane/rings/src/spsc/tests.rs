#[cfg(loom)]
mod interleavings {
    use super::super::{Full, channel};

    #[test]
    fn some_interleaving_loses_reorders_or_doubles_a_message() {
        loom::model(|| {
            // Two slots and three messages: the ring fills, wraps, and both cached counters get stale.
            let (mut producer, mut consumer) = channel::<Box<usize>>(2);
            let sender = loom::thread::spawn(move || {
                for number in 0..3 {
                    let mut message = Box::new(number);
                    while let Err(Full(back)) = producer.try_push(message) {
                        message = back;
                        loom::thread::yield_now();
                    }
                }
            });
            let mut expected = 0;
            while expected < 3 {
                match consumer.pop() {
                    Some(number) => {
                        assert_eq!(*number, expected);
                        expected += 1;
                    }
                    None => loom::thread::yield_now(),
                }
            }
            sender.join().expect("the sender finished");
            assert!(consumer.is_disconnected());
        });
    }

    #[test]
    fn some_interleaving_tears_a_batch_or_hands_a_slot_back_unread() {
        loom::model(|| {
            let (mut producer, mut consumer) = channel::<Box<usize>>(2);
            let sender = loom::thread::spawn(move || {
                let mut numbers = (0..3).map(Box::new);
                let mut sent = 0;
                while sent < 3 {
                    sent += producer.push_batch(|| numbers.next());
                    loom::thread::yield_now();
                }
            });
            let mut expected = 0;
            while expected < 3 {
                consumer.pop_batch(2, |number| {
                    assert_eq!(*number, expected);
                    expected += 1;
                });
                loom::thread::yield_now();
            }
            sender.join().expect("the sender finished");
            assert!(consumer.is_disconnected());
        });
    }

    #[test]
    fn a_sleeper_misses_the_message_that_should_wake_it() {
        use loom::sync::atomic::{AtomicBool, Ordering, fence};
        // The order in which a shard goes to sleep and another wakes it: `rt::Doorbell`'s, over this ring.
        loom::model(|| {
            let (mut producer, mut consumer) = channel::<u8>(2);
            let parked = loom::sync::Arc::new(AtomicBool::new(false));
            let rung = loom::sync::Arc::new(AtomicBool::new(false));
            let (parked_seen, bell) = (parked.clone(), rung.clone());
            let sender = loom::thread::spawn(move || {
                producer.push_batch({
                    let mut once = Some(1);
                    move || once.take()
                });
                fence(Ordering::SeqCst);
                if parked_seen.load(Ordering::Relaxed) && parked_seen.swap(false, Ordering::AcqRel) {
                    bell.store(true, Ordering::Release);
                }
            });
            parked.store(true, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            let sleeps = consumer.is_empty();
            sender.join().expect("the sender finished");
            assert!(!sleeps || rung.load(Ordering::Acquire), "asleep beside a message");
            assert_eq!(consumer.pop(), Some(1));
        });
    }

    #[test]
    fn a_disconnect_overtakes_the_last_message() {
        loom::model(|| {
            let (mut producer, mut consumer) = channel::<Box<u8>>(2);
            let sender = loom::thread::spawn(move || {
                producer.try_push(Box::new(1)).expect("room");
            });
            let mut taken = 0;
            while !consumer.is_disconnected() {
                taken += u8::from(consumer.pop().is_some());
                loom::thread::yield_now();
            }
            assert_eq!(taken, 1);
            sender.join().expect("the sender finished");
        });
    }

    #[test]
    fn a_consumer_that_goes_leaks_or_frees_twice() {
        loom::model(|| {
            let (mut producer, mut consumer) = channel::<loom::sync::Arc<u8>>(2);
            let message = loom::sync::Arc::new(1);
            let receiver = loom::thread::spawn(move || {
                consumer.pop();
            });
            for _ in 0..2 {
                // A full ring gives the message back, which is as good here.
                let _ = producer.try_push(message.clone());
            }
            receiver.join().expect("the receiver finished");
            drop(producer);
            assert_eq!(loom::sync::Arc::strong_count(&message), 1);
        });
    }
}

#[cfg(not(loom))]
mod model {
    use std::collections::VecDeque;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Arc;
    use std::thread;

    use proptest::prelude::*;

    use super::super::{Full, SLOTS_MAX, channel};

    /// What the two ends do in turn.
    #[derive(Clone, Debug)]
    enum Step {
        Push,
        PushBatch(usize),
        Pop,
        PopBatch(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            Just(Step::Push),
            (0..40_usize).prop_map(Step::PushBatch),
            Just(Step::Pop),
            (0..40_usize).prop_map(Step::PopBatch),
        ]
    }

    proptest! {
        #[test]
        fn a_ring_behaves_unlike_a_bounded_queue(
            bits in 0..5_u32,
            steps in proptest::collection::vec(step(), 1..400),
        ) {
            let capacity = 1 << bits;
            let (mut producer, mut consumer) = channel(capacity);
            let mut model = VecDeque::new();
            let mut next = 0_u64;
            for step in steps {
                match step {
                    Step::Push => {
                        let pushed = producer.try_push(next.to_string());
                        if model.len() == capacity {
                            prop_assert_eq!(pushed, Err(Full(next.to_string())));
                        } else {
                            prop_assert_eq!(pushed, Ok(()));
                            model.push_back(next.to_string());
                        }
                        next += 1;
                    }
                    Step::PushBatch(count) => {
                        let mut batch = (next..).take(count).map(|number| number.to_string());
                        let pushed = producer.push_batch(|| batch.next());
                        prop_assert_eq!(pushed, count.min(capacity - model.len()));
                        model.extend((next..).take(pushed).map(|number| number.to_string()));
                        prop_assert_eq!(batch.next().is_none(), pushed == count, "asked for more than has room");
                        next += count as u64;
                    }
                    Step::Pop => prop_assert_eq!(consumer.pop(), model.pop_front()),
                    Step::PopBatch(count) => {
                        let mut taken = Vec::new();
                        let popped = consumer.pop_batch(count, |message| taken.push(message));
                        prop_assert_eq!(popped, count.min(model.len()));
                        prop_assert_eq!(taken, model.drain(..popped).collect::<Vec<_>>());
                    }
                }
                prop_assert_eq!((producer.len(), consumer.len()), (model.len(), model.len()));
                prop_assert_eq!(producer.has_room(), model.len() < capacity);
            }
        }
    }

    #[test]
    fn a_batch_cut_short_by_a_panic_doubles_or_leaks_a_message() {
        let message = Arc::new(());
        let (mut producer, mut consumer) = channel(4);
        let mut asked = 0;
        let cut = catch_unwind(AssertUnwindSafe(|| {
            producer.push_batch(|| {
                asked += 1;
                assert!(asked < 3, "the third is not to be had");
                Some(message.clone())
            })
        }));
        assert!(cut.is_err() && consumer.len() == 2);
        let cut = catch_unwind(AssertUnwindSafe(|| consumer.pop_batch(2, |_| panic!("no use for it"))));
        assert!(cut.is_err() && consumer.len() == 1);
        drop((producer, consumer));
        assert_eq!(Arc::strong_count(&message), 1);
    }

    #[test]
    fn two_threads_lose_reorder_or_tear_messages() {
        const MESSAGES: u64 = 300_000;
        for capacity in [1, 2, 64] {
            let (mut producer, mut consumer) = channel::<[u64; 3]>(capacity);
            let sender = thread::spawn(move || {
                for number in 0..MESSAGES {
                    let mut message = [number, !number, number.wrapping_mul(7)];
                    while let Err(Full(back)) = producer.try_push(message) {
                        message = back;
                        thread::yield_now();
                    }
                }
            });
            let mut expected = 0_u64;
            while !consumer.is_disconnected() {
                match consumer.pop() {
                    Some(message) => {
                        assert_eq!(message, [expected, !expected, expected.wrapping_mul(7)]);
                        expected += 1;
                    }
                    None => thread::yield_now(),
                }
            }
            assert_eq!(expected, MESSAGES);
            sender.join().expect("the sender finished");
        }
    }

    #[test]
    fn a_message_nobody_took_leaks() {
        let message = Arc::new(());
        let (mut producer, mut consumer) = channel(4);
        for _ in 0..4 {
            producer.try_push(message.clone()).expect("room");
        }
        drop(consumer.pop());
        producer.try_push(message.clone()).expect("room again");
        drop(producer);
        assert_eq!(Arc::strong_count(&message), 5);
        assert!(!consumer.is_disconnected(), "messages are left");
        drop(consumer);
        assert_eq!(Arc::strong_count(&message), 1);
    }

    #[test]
    fn a_dead_end_goes_unnoticed() {
        let (mut producer, consumer) = channel(1);
        assert!(!producer.is_disconnected());
        drop(consumer);
        assert!(producer.is_disconnected());
        assert_eq!(producer.try_push(1), Ok(()));
        assert_eq!(producer.try_push(2), Err(Full(2)));
        let (producer, mut consumer) = channel::<u8>(1);
        drop(producer);
        assert!(consumer.is_disconnected());
        assert_eq!(consumer.pop(), None);
    }

    #[test]
    fn an_odd_capacity_breaks_the_index() {
        assert_eq!(channel::<u8>(3).0.capacity(), 4);
        assert_eq!(channel::<()>(SLOTS_MAX).1.capacity(), SLOTS_MAX);
    }
}
