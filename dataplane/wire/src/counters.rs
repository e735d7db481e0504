//! Counters that are declared once: the struct, and the list from which metrics are made, so that none is forgotten.

/// A counter or gauge of a struct made by [`counters!`](crate::counters).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CounterField {
    /// Its name, as in the struct.
    pub name: &'static str,
    /// What it counts, in a line.
    pub help: &'static str,
    /// Since the start for a counter, now for a gauge.
    pub value: u64,
    /// Whether it may fall.
    pub is_gauge: bool,
}

/// Declares a struct of `u64` counters, and of gauges behind `gauges:`; whoever reads counters takes differences. The
/// first line of each field's documentation is its help text. `Name prefixed "p_" { … }` tells each under that prefix.
#[macro_export]
macro_rules! counters {
    ($(#[doc = $about:literal])+ $name:ident { $($fields:tt)+ }) => {
        $crate::counters! { $(#[doc = $about])+ $name prefixed "" { $($fields)+ } }
    };
    (
        $(#[doc = $about:literal])+
        $name:ident prefixed $prefix:literal {
            $(#[doc = $first:literal] $(#[doc = $more:literal])* $field:ident,)+
            $(gauges: $(#[doc = $gauge_first:literal] $(#[doc = $gauge_more:literal])* $gauge:ident,)+)?
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        pub struct $name {
            $(#[doc = $first] $(#[doc = $more])* pub $field: u64,)+
            $($(#[doc = $gauge_first] $(#[doc = $gauge_more])* pub $gauge: u64,)+)?
        }

        impl $name {
            /// Every field with its name.
            pub fn fields(&self) -> impl Iterator<Item = (&'static str, u64)> {
                self.described().map(|field| (field.name, field.value))
            }

            /// Every field with what metrics say of it.
            pub fn described(&self) -> impl Iterator<Item = $crate::CounterField> {
                let field = |name, help: &'static str, value, is_gauge| {
                    $crate::CounterField { name, help: help.trim_ascii(), value, is_gauge }
                };
                [
                    $(field(concat!($prefix, stringify!($field)), concat!($first, $($more),*), self.$field, false),)+
                    $($(field(concat!($prefix, stringify!($gauge)), concat!($gauge_first, $($gauge_more),*), self.$gauge, true),)+)?
                ]
                .into_iter()
            }

            /// Adds another's figures to these.
            pub const fn add(&mut self, other: &Self) {
                $(self.$field += other.$field;)+
                $($(self.$gauge += other.$gauge;)+)?
            }
        }
    };
}

#[cfg(test)]
#[allow(unreachable_pub, reason = "the macro declares what crates show")]
mod tests {
    counters! {
        /// A test's.
        Tested {
            /// Taken.
            taken,
            /// Refused, for
            /// whatever reason.
            refused,
            gauges:
            /// Held now.
            held,
        }
    }

    counters! {
        /// Another's.
        Prefixed prefixed "of_" {
            /// Taken.
            taken,
        }
    }

    #[test]
    fn a_prefix_is_left_out() {
        let mut sum = Prefixed { taken: 1 };
        sum.add(&Prefixed { taken: 2 });
        let told: Vec<_> = sum.fields().collect();
        assert_eq!(told, [("of_taken", 3)]);
    }

    #[test]
    fn a_counter_is_left_out_or_told_as_something_else() {
        let mut sum = Tested { taken: 1, refused: 2, held: 3 };
        sum.add(&Tested { taken: 10, refused: 20, held: 30 });
        let told: Vec<_> =
            sum.described().map(|told| (told.name, told.help, told.value, told.is_gauge)).collect();
        let expected = [
            ("taken", "Taken.", 11, false),
            ("refused", "Refused, for whatever reason.", 22, false),
            ("held", "Held now.", 33, true),
        ];
        assert_eq!(told, expected);
        assert!(sum.fields().eq(expected.map(|(name, _, value, _)| (name, value))));
    }
}
