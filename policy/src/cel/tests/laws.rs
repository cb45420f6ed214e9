//! Laws that hold for every expression and every call.

use proptest::prelude::*;

use super::*;
use crate::number::Decimal;

/// Stands in every string of generated arguments, and in no expression.
const MARK: &str = "ζ";

fn scalar() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("null".to_owned()),
        prop::bool::ANY.prop_map(|value| value.to_string()),
        (-3_i64..4).prop_map(|value| value.to_string()),
        (-8_i64..8).prop_map(|value| format!("{value}.25")),
        Just("9007199254740993".to_owned()),
        Just("-1e300".to_owned()),
        "[ab/]{0,3}".prop_map(|text| format!("\"{text}{MARK}\"")),
    ]
}

fn json() -> impl Strategy<Value = String> {
    scalar().prop_recursive(3, 16, 4, |inner| {
        prop_oneof![prop::collection::vec(inner.clone(), 0..4).prop_map(|elements| format!("[{}]", elements.join(","))), object(inner),]
    })
}

fn object(value: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    prop::collection::btree_map("[abc]", value, 0..3).prop_map(|members| {
        let members: Vec<_> = members.into_iter().map(|(key, value)| format!("\"{key}\": {value}")).collect();
        format!("{{{}}}", members.join(","))
    })
}

/// `a` and `b` are always there, `c` sometimes.
fn args() -> impl Strategy<Value = String> {
    (json(), json(), prop::option::of(json())).prop_map(|(a, b, c)| {
        let c = c.map(|c| format!(", \"c\": {c}")).unwrap_or_default();
        format!("{{\"a\": {a}, \"b\": {b}{c}}}")
    })
}

/// Kleene's "and", the slow and obvious way: the least of false, undecided, true.
fn all(answers: impl IntoIterator<Item = Truth>) -> &'static str {
    ORDER[answers.into_iter().map(|answer| rank(&answer)).min().unwrap_or(2)]
}

/// Kleene's "or": the greatest.
fn any(answers: impl IntoIterator<Item = Truth>) -> &'static str {
    ORDER[answers.into_iter().map(|answer| rank(&answer)).max().unwrap_or(0)]
}

const ORDER: [&str; 3] = ["false", "undecided", "true"];

fn rank(answer: &Truth) -> usize {
    match answer {
        Truth::False => 0,
        Truth::Undecided(_) => 1,
        Truth::True => 2,
    }
}

/// Expressions of any type, most of them of a type that is known only when a call comes.
fn expression() -> impl Strategy<Value = String> {
    let literals =
        ["true", "false", "null", "0", "1", "-1", "2.25", "'a'", "'/'", "[]", "[1, 'a']", "{}", "{'a': 1}", "int", "tool", "server"];
    let leaf = prop_oneof![
        1 => prop::sample::select(literals.to_vec()).prop_map(str::to_owned),
        3 => prop::sample::select(vec!["args.a", "args.b", "args.c", "args", "x"]).prop_map(str::to_owned),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        let operators = ["&&", "||", "==", "!=", "<", "<=", ">", ">=", "+", "-", "*", "/", "%", "in"];
        let functions = ["size", "int", "double", "string", "type"];
        let members = ["contains", "startsWith", "endsWith", "split", "substring"];
        let on_text = ["size()", "trim()", "lowerAscii()", "upperAscii()", "matches('^a+')", "substring(1)", "a", "b"];
        let macros = ["all", "exists", "exists_one", "map", "filter"];
        prop_oneof![
            3 => (inner.clone(), prop::sample::select(operators.to_vec()), inner.clone()).prop_map(|(a, op, b)| format!("({a} {op} {b})")),
            1 => inner.clone().prop_map(|a| format!("!({a})")),
            1 => inner.clone().prop_map(|a| format!("-({a})")),
            1 => (inner.clone(), inner.clone(), inner.clone()).prop_map(|(a, b, c)| format!("({a} ? {b} : {c})")),
            1 => (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a})[{b}]")),
            1 => inner.clone().prop_map(|a| format!("has(({a}).a)")),
            1 => (prop::sample::select(functions.to_vec()), inner.clone()).prop_map(|(f, a)| format!("{f}({a})")),
            1 => (inner.clone(), prop::sample::select(members.to_vec()), inner.clone()).prop_map(|(a, f, b)| format!("({a}).{f}({b})")),
            1 => (inner.clone(), prop::sample::select(on_text.to_vec())).prop_map(|(a, f)| format!("({a}).{f}")),
            2 => (inner.clone(), prop::sample::select(macros.to_vec()), inner.clone()).prop_map(|(a, m, b)| format!("({a}).{m}(x, {b})")),
            1 => (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("[{a}, {b}]")),
            1 => (inner.clone(), inner).prop_map(|(a, b)| format!("{{{a}: {b}}}")),
        ]
    })
}

/// Something to ask of generated arguments: true, false or undecided, none of them rarely.
fn condition() -> impl Strategy<Value = String> {
    let questions = [
        "true",
        "false",
        "args.a == args.b",
        "args.a != args.b",
        "args.a == 1",
        "args.b in [1, true, [], 0.25]",
        "type(args.a) == type(args.b)",
        "type(args.a) == list",
        "args.a > 0",
        "args.a < args.b",
        "args.a <= 1.25",
        "has(args.c)",
        "'c' in args",
        "args.c == null",
        "args.missing == 1",
        "size(args.a) > 1",
        "args.b.exists(x, x == 1)",
        "args.a.all(x, x > 0)",
        "args.a",
        "args.a.contains('a')",
        "args.a.a != 1",
        "args.a[0] == args.b[0]",
        "string(args.a) == '1'",
        "int(args.b) > 0",
        "args.a + args.b == 2",
        "args.all(k, k < 'c')",
    ];
    let compared = (expression(), expression()).prop_map(|(a, b)| format!("({a}) == ({b})"));
    let leaf = prop_oneof![
        4 => prop::sample::select(questions.to_vec()).prop_map(str::to_owned),
        1 => prop_oneof![expression(), compared].prop_filter("must be accepted", |text| Program::compile(text, &mut Regexps::default()).is_ok()),
    ];
    leaf.prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            2 => (inner.clone(), prop::sample::select(vec!["&&", "||", "=="]), inner.clone()).prop_map(|(a, op, b)| format!("({a}) {op} ({b})")),
            1 => inner.clone().prop_map(|a| format!("!({a})")),
            1 => (inner.clone(), inner.clone(), inner).prop_map(|(a, b, c)| format!("({a}) ? ({b}) : ({c})")),
        ]
    })
}

fn tokens() -> impl Strategy<Value = String> {
    let tokens = [
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        ".",
        ",",
        "?",
        ":",
        "+",
        "-",
        "*",
        "/",
        "%",
        "!",
        "&&",
        "||",
        "&",
        "=",
        "==",
        "<",
        "<=",
        "!=",
        " in ",
        "args",
        "x",
        "size",
        "has",
        "all",
        "map",
        "1",
        "1u",
        "0x",
        "1.5",
        "1e",
        ".5",
        "'s'",
        "\"",
        "'",
        "'''",
        "r'",
        "b'",
        "`",
        "\\",
        "true",
        "null",
        "for",
        "é",
        "\u{1F600}",
        "\n",
        "\r",
        "//",
        " ",
        "\0",
        "@",
        "9223372036854775808",
        "'\\",
        "\\u",
        "'\\ud800'",
        "matches",
        "'('",
    ];
    prop::collection::vec(prop::sample::select(tokens.to_vec()), 0..30).prop_map(|tokens| tokens.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn no_text_panics(text in prop_oneof![tokens(), proptest::arbitrary::any::<String>()], args in args()) {
        if let Ok(program) = Program::compile(&text, &mut Regexps::default()) {
            ask_value(&program, &Value::parse(&args).unwrap());
        }
    }

    #[test]
    fn a_place_is_told_of_every_refused_expression(text in expression()) {
        if let Err(error) = Program::compile(&text, &mut Regexps::default()) {
            prop_assert!(error.starts_with("column ") || error.starts_with("the expression is too"), "{}: {}", text, error);
        }
    }

    #[test]
    fn macros_are_what_they_stand_for(list in prop::collection::vec(scalar(), 0..4), of_it in prop::sample::select(vec!["IT == 1", "IT > 0", "IT", "IT != null", "size(IT) > 1"])) {
        let args = format!("{{\"a\": [{}]}}", list.join(","));
        let answers = || list.iter().map(|element| ask(&of_it.replace("IT", "args.x"), &format!("{{\"x\": {element}}}")));
        let of_x = of_it.replace("IT", "x");
        prop_assert_eq!(short(&ask(&format!("args.a.all(x, {of_x})"), &args)), all(answers()));
        prop_assert_eq!(short(&ask(&format!("args.a.exists(x, {of_x})"), &args)), any(answers()));
        let decided: Option<Vec<bool>> = answers().map(|answer| match answer {
            Truth::True => Some(true),
            Truth::False => Some(false),
            Truth::Undecided(_) => None,
        }).collect();
        let count = decided.map(|answers| answers.into_iter().filter(|holds| *holds).count());
        let expected = match count { None => "undecided", Some(1) => "true", Some(_) => "false" };
        prop_assert_eq!(short(&ask(&format!("args.a.exists_one(x, {of_x})"), &args)), expected);
        if let Some(count) = count {
            prop_assert_eq!(ask(&format!("size(args.a.map(x, {of_x}, 1)) == {count}"), &args), Truth::True);
            // What `filter` keeps it reads, and a number beyond ±2^53 cannot be read.
            let kept = short(&ask(&format!("size(args.a.filter(x, {of_x})) == {count}"), &args));
            prop_assert!(kept == "true" || kept == "undecided" && list.iter().any(|x| x.len() > 5));
        }
    }

    #[test]
    fn equality_is_symmetric_and_in_is_equality_with_one(a in json(), b in json()) {
        let args = format!("{{\"a\": {a}, \"b\": {b}}}");
        let equal = short(&ask("args.a == args.b", &args));
        prop_assert_eq!(short(&ask("args.b == args.a", &args)), equal);
        prop_assert_eq!(short(&ask("!(args.a != args.b)", &args)), equal);
        prop_assert_eq!(short(&ask("args.a in [args.b]", &args)), equal);
        prop_assert_eq!(short(&ask("[args.b].exists(x, x == args.a)", &args)), equal);
        prop_assert_eq!(short(&ask("{'k': args.a} == {'k': args.b}", &args)), equal);
        let (a, b) = (Value::parse(&a).unwrap(), Value::parse(&b).unwrap());
        if !a.has_inexact_number() && !b.has_inexact_number() {
            prop_assert_eq!(equal, if a == b { "true" } else { "false" });
        }
    }

    #[test]
    fn numbers_are_ordered_by_exact_value(a in number(), b in number()) {
        let order = Decimal::parse(&a).unwrap().cmp(&Decimal::parse(&b).unwrap());
        let args = format!("{{\"a\": {a}, \"b\": {b}}}");
        for (operator, holds) in [("<", order.is_lt()), ("<=", order.is_le()), (">", order.is_gt()), (">=", order.is_ge()), ("==", order.is_eq()), ("!=", order.is_ne())] {
            prop_assert_eq!(ask(&format!("args.a {operator} args.b"), &args), Truth::from(holds), "{} {} {}", &a, operator, &b);
            prop_assert_eq!(ask(&format!("{a} {operator} {b}"), "{}"), Truth::from(holds), "{} {} {}", a, operator, b);
        }
    }

    #[test]
    fn whole_numbers_are_added_as_whole_numbers_are(a in -(1_i64 << 53)..=1 << 53, b in -(1_i64 << 53)..=1 << 53) {
        let args = format!("{{\"a\": {a}, \"b\": {b}}}");
        for (operator, value) in [("+", a.checked_add(b)), ("-", a.checked_sub(b)), ("*", a.checked_mul(b)), ("/", a.checked_div(b)), ("%", a.checked_rem(b))] {
            let answer = ask(&format!("args.a {operator} args.b == {}", value.unwrap_or(0)), &args);
            prop_assert_eq!(short(&answer), if value.is_some() { "true" } else { "undecided" }, "{} {} {}", a, operator, b);
        }
    }

    #[test]
    fn text_functions_are_those_of_text(text in "[aé/]{0,6}", part in "[aé/]{0,2}", from in 0_usize..7, to in 0_usize..7) {
        let args = format!("{{\"s\": \"{text}\", \"p\": \"{part}\"}}");
        let characters: Vec<char> = text.chars().collect();
        let cut = characters.get(from..to).map(|cut| cut.iter().collect::<String>());
        let answer = ask(&format!("args.s.substring({from}, {to}) == '{}'", cut.clone().unwrap_or_default()), &args);
        prop_assert_eq!(short(&answer), if cut.is_some() { "true" } else { "undecided" });
        for (expression, holds) in [
            ("args.s.contains(args.p)", text.contains(&part)),
            ("args.s.startsWith(args.p)", text.starts_with(&part)),
            ("args.s.endsWith(args.p)", text.ends_with(&part)),
            ("args.s < args.p", text < part),
        ] {
            prop_assert_eq!(ask(expression, &args), Truth::from(holds), "{}", expression);
        }
        let pieces = if part.is_empty() { characters.len() } else { text.matches(&part).count() + 1 };
        prop_assert_eq!(ask(&format!("size(args.s.split(args.p)) == {pieces} && size(args.s) == {}", characters.len()), &args), Truth::True);
    }
}

proptest! {
    #[test]
    fn answers_depend_on_the_call_alone_and_reasons_hold_no_values(text in condition(), args in args()) {
        let answer = ask(&text, &args);
        prop_assert_eq!(&ask(&text, &args), &answer);
        if let Truth::Undecided(reason) = answer {
            prop_assert!(!reason.contains(MARK), "{}", reason);
        }
    }

    #[test]
    fn and_or_and_not_are_kleenes(a in condition(), b in condition(), args in args()) {
        let (left, right) = (ask(&a, &args), ask(&b, &args));
        let both = all([left.clone(), right.clone()]);
        let either = any([left.clone(), right]);
        for (text, expected) in [
            (format!("({a}) && ({b})"), both),
            (format!("({b}) && ({a})"), both),
            (format!("!(!({a}) || !({b}))"), both),
            (format!("({a}) || ({b})"), either),
            (format!("({b}) || ({a})"), either),
            (format!("({a}) ? true : false"), short(&left)),
            (format!("!!({a})"), short(&left)),
        ] {
            // Some grow too deep; what is accepted must hold.
            if let Ok(program) = Program::compile(&text, &mut Regexps::default()) {
                prop_assert_eq!(short(&ask_value(&program, &Value::parse(&args).unwrap())), expected, "{}", text);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(50))]

    /// Each visits more than there are steps for, unless an error or an answer comes before.
    #[test]
    fn evaluation_of_long_lists_ends(text in condition(), depth in 1_usize..4) {
        let long = Value::Array((0_i64..10_000).map(|value| Value::Number(value.into())).collect());
        let args = Value::Object(["a", "b", "c"].into_iter().map(|key| (key.into(), long.clone())).collect());
        let nested = (0..depth).fold(text, |inner, _| format!("args.a.all(x, ({inner}) || true)"));
        if let Ok(program) = Program::compile(&nested, &mut Regexps::default()) {
            prop_assert_eq!(short(&ask_value(&program, &args)), "undecided");
        }
    }
}

/// Numbers that a double holds exactly, so that whole ones and others can be compared as decimals.
fn number() -> impl Strategy<Value = String> {
    prop_oneof![
        (-(1_i64 << 53)..=1 << 53).prop_map(|value| value.to_string()),
        (-3_i64..4).prop_map(|value| value.to_string()),
        (-(1_i64 << 40)..1 << 40, prop::sample::select(vec!["25", "5", "75"])).prop_map(|(whole, fraction)| format!("{whole}.{fraction}")),
        (-3_i64..4, prop::sample::select(vec!["0", "5"])).prop_map(|(whole, fraction)| format!("{whole}.{fraction}")),
    ]
}
