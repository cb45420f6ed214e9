//! What means something else here than there. Each is said in a few words at every place that it touches, and once in full.

/// One such thing.
#[derive(Debug, PartialEq, Eq)]
pub struct Difference {
    /// At the place.
    pub here: &'static str,
    /// At the top of the policy.
    pub everywhere: &'static str,
}

pub const UNDECIDED: Difference = Difference {
    here: "",
    everywhere: "A condition that cannot be decided refuses the call: a wrong type, a number beyond 2^53. There it counts as not true.",
};
pub const EXACT: Difference = Difference {
    here: "",
    everywhere: "Numbers are compared as exact decimals. There they are rounded to doubles, from the 16th digit on.",
};
pub const PER_POD: Difference =
    Difference { here: "", everywhere: "Counters live in the memory of each pod: of several pods, each counts for itself." };
pub const SLIDING: Difference = Difference {
    here: "slides here, fixed there",
    everywhere: "Windows slide: no interval of that length ever sees more than `max`. There a count begins anew with each minute, hour or \
                 day, so that twice as much can pass around its turn.",
};
pub const GRANT: Difference = Difference {
    here: "a caller is an address here",
    everywhere: "`scope: grant` is a budget for each caller, who is known here by the address that a connection comes from. There it is for \
                 each grant.",
};
pub const SESSION: Difference =
    Difference { here: "per session", everywhere: "`rateLimit` counts for each session, and where there is none, for each address." };
pub const FOR_ALL: Difference = Difference {
    here: "for all callers together",
    everywhere: "`scope: server` is one budget for all callers, as every counter is there.",
};
pub const AMOUNT: Difference = Difference {
    here: "amounts are exact here",
    everywhere: "Amounts are counted exactly, and a negative one refuses the call. There fractions are cut off, and a negative one is taken off.",
};
pub const STRICT: Difference = Difference {
    here: "strict here",
    everywhere: "Values of different types are not equal: 10 is not \"10\". There what prints alike is equal.",
};
pub const WIDENED: Difference = Difference {
    here: "what prints alike is listed too",
    everywhere: "Values that print alike, as 10 and \"10\", are equal there. Where calls would pass because they are not here, all are listed.",
};
/// Where less can be refused than there. It is told as a warning too.
pub const UNNAMED: Difference = Difference {
    here: "WEAKER than there: not all values that print alike can be listed",
    everywhere: "WEAKER: texts and lists that print like a number or a list are equal to it there. Where this says so, they are not here.",
};
pub const NULL: Difference = Difference {
    here: "null counts as absent there",
    everywhere: "`null` is a value. There it counts as absent, and `exists` is false of it.",
};
pub const REWRITTEN: Difference = Difference {
    here: "rewritten to match the same texts",
    everywhere: "In regular expressions `\\d`, `\\w`, `\\s` and `\\b` know all of Unicode. There they know ASCII.",
};
pub const NOT_LISTED: Difference = Difference {
    here: "not listed here, listed there",
    everywhere: "`tools/list` leaves out tools that `action: deny` denies. There they are listed.",
};
pub const PATTERN: Difference = Difference {
    here: "a pattern here, one name there",
    everywhere: "In `hide`, `*` and `?` make a pattern. There they are characters of a name, but for `*` alone.",
};
pub const APPROVAL: Difference = Difference {
    here: "one approval, one call here",
    everywhere: "Where a call waits for a person, an approval is for that one call with these very arguments, by this caller; it is used once, and \
                 expires. In standalone use nobody can be asked, so such calls are refused.",
};

/// All of them, in the order in which they are told.
pub const ALL: [&Difference; 16] = [
    &UNNAMED,
    &APPROVAL,
    &UNDECIDED,
    &STRICT,
    &WIDENED,
    &NULL,
    &EXACT,
    &REWRITTEN,
    &SLIDING,
    &GRANT,
    &SESSION,
    &FOR_ALL,
    &AMOUNT,
    &PER_POD,
    &NOT_LISTED,
    &PATTERN,
];
