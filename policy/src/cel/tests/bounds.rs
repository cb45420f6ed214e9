//! That neither time, nor memory, nor the stack can run away.

use std::borrow::Cow;

use super::*;

const OUT_OF_STEPS: &str = "the expression takes more than 10,000 steps";

/// Whether the expression can be decided of `args` within the steps there are.
fn decided(program: &Program, args: &Value<'_>) -> bool {
    match ask_value(program, args) {
        Truth::Undecided(reason) => {
            assert_eq!(reason, OUT_OF_STEPS);
            false
        }
        _ => true,
    }
}

fn object<'a>(members: impl IntoIterator<Item = (&'a str, Value<'a>)>) -> Value<'a> {
    Value::Object(members.into_iter().map(|(key, value)| (Cow::Borrowed(key), value)).collect())
}

fn list(elements: usize) -> Value<'static> {
    Value::Array((0..elements).map(|_| Value::Number(0.into())).collect())
}

fn text(bytes: usize) -> Value<'static> {
    Value::String("a".repeat(bytes).into())
}

/// Asserts that the expression can be decided of an `args.a` (and `args.b`) of this size, and of none that is larger.
fn assert_largest(expression: &str, sized: impl Fn(usize) -> Value<'static>, size: usize) {
    let program = compiled(expression);
    let fits = |size: usize| decided(&program, &object([("a", sized(size)), ("b", sized(size)), ("s", Value::String("x".into()))]));
    assert!(fits(size), "{expression} of {size}");
    assert!(!fits(size + 1), "{expression} of {}", size + 1);
}

#[test]
fn each_operation_costs_what_the_documentation_says() {
    // `args.a` is two steps: the variable and the member.
    for (expression, size) in [
        // The macro, its range; of each element one for the visit and one for the condition.
        ("args.a.all(x, true)", (10_000 - 3) / 2),
        ("args.a.exists(x, false)", (10_000 - 3) / 2),
        ("args.a.exists_one(x, false)", (10_000 - 3) / 2),
        ("args.a.filter(x, false) == [0]", (10_000 - 6) / 2),
        ("args.a.map(x, 1) == [0, 0]", (10_000 - 7) / 2),
        ("args.a.map(x, false, 1) == [0]", (10_000 - 6) / 2),
        // The operator, its sides, and one for each element.
        ("1 in args.a", 10_000 - 4),
        ("args.a == args.b", 10_000 - 5),
        ("args.a + args.b == [0]", (10_000 - 8) / 2),
    ] {
        assert_largest(expression, list, size);
    }
    // A step more for each 1,024 bytes.
    for (expression, size) in [
        ("args.a == args.b", 10_000 - 5),
        ("args.a < args.b", 10_000 - 5),
        ("size(args.a) == 0", 10_000 - 5),
        ("args.a + args.b == ''", (10_000 - 7) / 2),
        ("args.a.contains(args.s)", 10_000 - 5),
        ("args.a.startsWith(args.s)", 10_000 - 5),
        ("args.a.endsWith(args.s)", 10_000 - 5),
        ("args.a.lowerAscii() == ''", 10_000 - 5),
        ("args.a.upperAscii() == ''", 10_000 - 5),
        ("args.a.trim() == ''", 10_000 - 5),
        ("args.a.substring(0) == ''", 10_000 - 6),
        ("args.a.substring(0, 0) == ''", 10_000 - 7),
        ("args.a.split('b') == []", 10_000 - 7),
        ("args.a in {}", 10_000 - 4),
        ("{args.a: 1} == {}", 10_000 - 7),
        // That it is no number does not matter, but that it takes too long does.
        ("int(args.a) == 0 || true", 10_000 - 6),
        ("double(args.a) == 0.0 || true", 10_000 - 6),
    ] {
        assert_largest(expression, |kilobytes| text(kilobytes * 1024), size);
    }
    assert_largest("args.a.matches('b')", |parts| text(parts * 64), 10_000 - 3);
    // 9 of the steps are for the text itself.
    assert_largest("args.a.split('') == []", text, 10_000 - 6 - 9);
}

#[test]
fn what_would_run_away_is_stopped() {
    let numbers = list(10_000);
    let args = object([("l", numbers), ("t", text(4 << 20)), ("s", text(1_000)), ("m", object([("k", list(20_000))]))]);
    let hostile = [
        "args.l.all(a, args.l.all(b, args.l.all(c, true)))".to_owned(),
        "args.l.map(a, args.l.map(b, args.l)) == []".to_owned(),
        "args.l.map(a, args.l) == args.l.map(a, args.l)".to_owned(),
        "args.l.filter(a, args.l == args.l) == []".to_owned(),
        "args.l + args.l == []".to_owned(),
        "args.t + args.t + args.t == ''".to_owned(),
        "args.l.map(a, args.t + 'x') == []".to_owned(),
        "args.l.all(a, !args.t.contains('b'))".to_owned(),
        "args.t.matches('(a|b|ab)*c')".to_owned(),
        "args.t.split('') == []".to_owned(),
        "args.t.split('a').map(x, args.t) == []".to_owned(),
        "args.m == args.m".to_owned(),
        "args == args".to_owned(),
        "false in args.m.k".to_owned(),
        "args.l.all(a, args.s.matches('b') || true)".to_owned(),
        "args.l.all(a, string(a) != a)".to_owned(),
        "args.l.all(a, {1: a, 2: a} == {1: a, 2: a})".to_owned(),
        doubling(24),
    ];
    for expression in hostile {
        assert!(!decided(&compiled(&expression), &args), "{expression}");
    }
}

/// `['x'].map(x0, [x0 + x0].map(x1, [x1 + x1].map(…)[0])[0])`: a text that doubles with each level.
fn doubling(levels: usize) -> String {
    let innermost = format!("x{levels}");
    let doubled = (1..=levels).rev().fold(innermost, |inner, level| format!("[x{0} + x{0}].map(x{level}, {inner})[0]", level - 1));
    format!("['x'].map(x0, {doubled}) == ['']")
}

#[test]
fn being_out_of_steps_is_never_made_up_for() {
    let args = object([("l", list(10_000))]);
    for expression in ["args.l.all(a, true) || true", "args.l.exists(a, false) && false", "[1, 2].exists(x, args.l.all(a, true) || x == 2)"]
    {
        assert!(!decided(&compiled(expression), &args), "{expression}");
    }
    // What decides before is not held up.
    assert!(decided(&compiled("true || args.l.all(a, true)"), &args));
}

#[test]
fn one_evaluation_does_not_use_the_steps_of_another() {
    let program = compiled("args.l.all(a, true)");
    let args = object([("l", list(4_998))]);
    assert!((0..3).all(|_| decided(&program, &args)));
}

/// Runs something on a stack that is half of what threads have by default.
fn on_a_small_stack(run: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().stack_size(1 << 20).spawn(run).unwrap();
    assert!(thread.join().is_ok());
}

#[test]
fn no_text_exhausts_the_stack() {
    let fill = |open: &str, middle: &str, close: &str| {
        let times = (2_048 - middle.len()) / (open.len() + close.len());
        format!("{}{middle}{}", open.repeat(times), close.repeat(times))
    };
    let chain = |start: &str, link: &str| format!("{start}{}", link.repeat((2_048 - start.len()) / link.len()));
    let texts = [
        fill("(", "1", ")"),
        fill("(", "", ""),
        fill("[", "1", "]"),
        fill("[", "", ""),
        fill("{1:", "1", "}"),
        fill("{", "", ""),
        fill("size(", "1", ")"),
        fill("args.x(", "1", ")"),
        fill("args[", "1", "]"),
        fill("[0].map(x,", "x", ")"),
        fill("[0].all(x,true&&", "x", ")"),
        fill("a{b:", "1", "}"),
        fill("true?", "true", ":true"),
        fill("(true?", "true", ":true)"),
        fill("(1<", "1", ")"),
        fill("-(", "1", ")"),
        fill("!(", "true", ")"),
        chain("", "!"),
        chain("", "!-"),
        chain("", "-"),
        chain("args", ".a"),
        chain("args", "[0]"),
        chain("args", ".map(x,x)"),
        chain("args", ".a()"),
        chain("1", "+1"),
        chain("1", "*1+1"),
        chain("1", "==1"),
        chain("args.a", "&&args.a"),
        chain("args.a", "||args.a"),
        chain("true", "?true:true"),
        chain("true", "?true"),
        chain("[", "1,"),
        chain("'", "\\"),
        chain("//", "é"),
    ];
    on_a_small_stack(move || {
        for text in texts {
            // Whether it is accepted does not matter here.
            let _ = Program::compile(&text, &mut Regexps::default());
        }
    });
}

#[test]
fn the_deepest_that_is_accepted_is_evaluated_on_a_small_stack() {
    on_a_small_stack(|| {
        let nested = |open: &str, middle: &str, close: &str, times: usize| format!("{}{middle}{}", open.repeat(times), close.repeat(times));
        for (expression, expected) in [
            (nested("[", "1", "]", 31) + " == 1", None),
            (format!("{0} == {0}", nested("[", "1", "]", 31)), Some("true")),
            (nested("!(", "true", ")", 31), Some("false")),
            (nested("[0].all(x, ", "true", ")", 31), Some("true")),
            (nested("[0].map(x, ", "x", ")", 31) + ".size() == 1", Some("true")),
            (format!("0{} == 61", " + 1".repeat(61)), Some("true")),
            (format!("args{} == 1", ".a".repeat(61)), Some("undecided")),
            (nested("(true ? ", "true", " : false)", 31), Some("true")),
        ] {
            match (Program::compile(&expression, &mut Regexps::default()), expected) {
                (Ok(program), Some(expected)) => assert_eq!(short(&ask_value(&program, &object([]))), expected, "{expression}"),
                (Err(_), None) => {}
                (compiled, _) => panic!("{expression}: {compiled:?}"),
            }
        }
    });
}

#[test]
fn the_deepest_arguments_are_compared_on_a_small_stack() {
    on_a_small_stack(|| {
        let deep = (1..60).fold(list(1), |inner, _| Value::Array(vec![inner]));
        let args = object([("a", deep.clone()), ("b", deep)]);
        assert_eq!(ask_value(&compiled("args.a == args.b && args.a in [args.b]"), &args), Truth::True);
    });
}
