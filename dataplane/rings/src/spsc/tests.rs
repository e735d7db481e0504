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
    use std::sync::Arc;
    use std::thread;

    use super::super::{Full, SLOTS_MAX, channel};

    /// A small generator of our own (splitmix64), so that a failure names a seed.
    struct Random(u64);

    impl Random {
        const fn next(&mut self) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        }
    }

    #[test]
    fn a_ring_behaves_unlike_a_bounded_queue() {
        for seed in 0..64 {
            let mut random = Random(seed);
            let capacity = 1 << (seed % 5);
            let (mut producer, mut consumer) = channel(capacity);
            let mut model = VecDeque::new();
            for step in 0..4_000_u64 {
                if random.next().is_multiple_of(2) {
                    let pushed = producer.try_push(step.to_string());
                    if model.len() == capacity {
                        assert_eq!(pushed, Err(Full(step.to_string())), "seed {seed} step {step}");
                    } else {
                        assert_eq!(pushed, Ok(()), "seed {seed} step {step}");
                        model.push_back(step.to_string());
                    }
                } else {
                    assert_eq!(consumer.pop(), model.pop_front(), "seed {seed} step {step}");
                }
                assert_eq!((producer.len(), consumer.len()), (model.len(), model.len()));
                assert_eq!(consumer.is_empty(), model.is_empty());
            }
        }
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
