//! What is refused when a policy is accepted, and in which words.

use super::*;

/// What messages list of functions; `…` below.
const FUNCTIONS: &str = "all, contains, double, endsWith, exists, exists_one, filter, has, int, lowerAscii, map, matches, size, split, \
                         startsWith, string, substring, trim, type, upperAscii";

/// Expression, and why it is refused.
const REFUSED: &[(&str, &str)] = &[
    ("  ", "the expression is empty: write a condition such as `args.amount <= 100`"),
    ("1 +", "column 4: the expression ends too early"),
    ("args.x ==", "column 10: the expression ends too early"),
    ("args.x = 1", "column 8: `=` is no operator: write `==`"),
    ("args.x == 1)", "column 12: the expression should end before ')'"),
    ("(args.x == 1", "column 13: expected ')'"),
    ("args.x == 'a", "column 11: unterminated string literal"),
    ("args.x & 1", "column 8: unexpected single '&', expected '&&'"),
    ("é == 1", "column 1: unexpected character"),
    ("args.é", "column 6: unexpected character"),
    ("args.x == 1 2", "column 13: the expression should end before '2'"),
    ("args.", r#"column 6: a name should stand after `.`; any other key is read as `args["any key"]`"#),
    ("args.in", r#"column 6: a name should stand after `.`; any other key is read as `args["any key"]`"#),
    (".args.x == 1", "column 1: there is no variable `.args`, did you mean `args`? There are args, caller, server, tool"),
    ("args.`x y`", r#"column 6: a name in backticks: write `args["any key"]`"#),
    ("args.?x == 1", "column 5: optional values are not supported: ask with `has(args.name)`"),
    ("args[?0] == 1", "column 5: optional values are not supported: ask with `has(args.name)`"),
    ("[?1] == []", "column 2: optional values are not supported: ask with `has(args.name)`"),
    ("for == 1", "column 1: `for` is a reserved word"),
    ("99999999999999999999 > 1", "column 1: an int must fit into 64 bits"),
    ("1e999 > 1.0", "column 1: a double must be finite"),
    ("1u == 1", "column 1: there are no unsigned ints and no bytes: there are null, bool, int, double, string, list and map"),
    ("b'a' == b'a'", "column 1: there are no unsigned ints and no bytes: there are null, bool, int, double, string, list and map"),
    (r"'\q' == 'a'", r"column 1: a string has an escape that is not known; a backslash is written `\\`"),
    ("int{a: 1} == 1", r#"column 1: there are no messages such as `int{…}`: write a map, `{"key": value}`"#),
    ("google.protobuf.Any{} == 1", r#"column 16: there are no messages such as `google.protobuf.Any{…}`: write a map, `{"key": value}`"#),
    ("args.x === 1", "column 10: unexpected token"),
    ("args.x and true", "column 8: `and` is no operator: write `&&`"),
    ("args.x or true", "column 8: `or` is no operator: write `||`"),
    ("a ? b", "column 6: expected ':' in conditional expression"),
    ("@result", "column 1: unexpected character"),
    ("arg.x == 1", "column 1: there is no variable `arg`, did you mean `args`? There are args, caller, server, tool"),
    ("amount > 5", "column 1: there is no variable `amount`; an argument is written `args.amount`. There are args, caller, server, tool"),
    ("x.y.z == 1", "column 1: there is no variable `x`; an argument is written `args.x`. There are args, caller, server, tool"),
    (
        "[1].map(x, y) == []",
        "column 12: there is no variable `y`; an argument is written `args.y`. There are args, caller, server, tool, x",
    ),
    (
        "[1].map(value, [2].map(y, valeu)) == []",
        "column 27: there is no variable `valeu`; an argument is written `args.valeu`. There are args, caller, server, tool, value, y",
    ),
    ("timestamp('2020') == 1", "column 1: there is no function `timestamp`; there are …"),
    ("args.x.startswith('a')", "column 18: there is no function `startswith`, did you mean `startsWith`? There are …"),
    ("args.x.indexOf('a') == 1", "column 15: there is no function `indexOf`; there are …"),
    ("math.greatest(1, 2) == 2", "column 14: there is no function `greatest`; there are …"),
    ("size()", "column 1: `size` is written `size(a)`"),
    ("size(1) == 1", "column 1: `size` takes a string, a list or a map here, not an int"),
    ("tool.size(1) == 1", "column 10: `size` is written `size(a)`"),
    ("contains(tool, 'a')", "column 1: `contains` is written `text.contains(part)`"),
    ("tool.int() == 1", "column 9: `int` is written `int(a)`"),
    ("tool.contains(1)", "column 14: `contains` takes a string here, not an int"),
    ("tool.substring('a') == ''", "column 15: `substring` takes an int here, not a string"),
    ("tool.substring(1, 2, 3) == ''", "column 15: `substring` is written `text.substring(from)` or `text.substring(from, to)`"),
    ("args.contains('a')", "column 14: `contains` is called on a string, not on a map"),
    ("int(null) == 1", "column 1: `int` takes an int, a double or a string here, not null"),
    ("string([]) == ''", "column 1: `string` takes a bool, an int, a double or a string here, not a list"),
    ("double(true) == 1.0", "column 1: `double` takes an int, a double or a string here, not a bool"),
    ("type(1, 2) == int", "column 1: `type` is written `type(a)`"),
    ("args.x.all(y)", "column 11: `all` is written `list.all(x, condition)`"),
    ("args.x.all(1, true)", "column 12: the first argument of a macro is the name of its variable, as in `list.all(x, x > 0)`"),
    ("all(args.x)", "column 1: `all` is written `list.all(x, condition)`"),
    ("has(args)", r#"column 5: `has` asks for one member: write `has(args.name)`, or `"any key" in args`"#),
    ("has(args['x'])", r#"column 9: `has` asks for one member: write `has(args.name)`, or `"any key" in args`"#),
    ("has(1)", r#"column 5: `has` asks for one member: write `has(args.name)`, or `"any key" in args`"#),
    ("tool.all(x, true)", "column 9: a macro walks a list, or the keys of a map, not a string"),
    ("[1].all(args, args > 0)", "column 8: `args` is a variable already: name the macro's variable otherwise"),
    ("[1].all(x, x + 1 && 1)", "column 14: `&&` joins bools, and this is an int"),
    ("[1].all(x, 1)", "column 12: the condition of a macro is a bool, and this is an int"),
    ("[1].exists_one(x, 'a')", "column 19: the condition of a macro is a bool, and this is a string"),
    ("[1].filter(x, 1) == []", "column 15: the condition of a macro is a bool, and this is an int"),
    ("tool + 1", "column 6: `+` takes two ints, two doubles, two strings or two lists, not a string and an int"),
    ("tool + 1 == 'a'", "column 6: `+` takes two ints, two doubles, two strings or two lists, not a string and an int"),
    (
        "1 + 1.0 == 2.0",
        "column 3: `+` takes two ints, two doubles, two strings or two lists, not an int and a double: convert one with `int(…)` or `double(…)`",
    ),
    ("tool - tool == tool", "column 6: `-` takes two ints or two doubles, not a string and a string"),
    ("args.x % 2.0 == 0", "column 8: `%` takes two ints, not a value of any type and a double"),
    ("-tool == 'a'", "column 1: `-` negates a number, not a string"),
    ("!tool", "column 2: `!` negates a bool, and this is a string"),
    ("args.x && 1", "column 11: `&&` joins bools, and this is an int"),
    ("1 || args.x", "column 1: `||` joins bools, and this is an int"),
    ("tool == 1", "column 6: a string never equals an int"),
    ("tool != null", "column 6: a string never equals null"),
    ("args == []", "column 6: a map never equals a list"),
    ("tool < 1", "column 6: `<` compares two numbers, two strings or two bools, not a string and an int"),
    ("[1] < [2]", "column 5: `<` compares two numbers, two strings or two bools, not a list and a list"),
    ("null < null", "column 6: `<` compares two numbers, two strings or two bools, not null and null"),
    ("1 in tool", "column 3: `in` looks in a list or a map: of a string, ask `text.contains(part)`"),
    ("1 in 1", "column 3: `in` looks in a list or a map, not in an int"),
    ("[1] in {}", "column 5: a list is not a key"),
    ("tool[0] == 'a'", "column 5: `[…]` reads a list or a map: of a string, ask `text.substring(from, to)`"),
    ("args[null]", "column 5: null is not a key"),
    ("[1]['a'] == 1", "column 4: an index of a list is an int, not a string"),
    ("[1][0.5] == 1", "column 4: an index of a list is an int, not a double"),
    ("1[0] == 1", "column 2: `[…]` reads a list or a map, not an int"),
    ("tool.x == 1", "column 5: `.x` reads a member of a map, and a string has none"),
    ("server.nam == 'a'", "column 7: `server` has no member `nam`: it has `name` and `namespace`"),
    (
        "caller.groups == 'a'",
        "column 7: `caller` has no member `groups`: it has `address`, `claims`, `issuer`, `kind`, `name`, `namespace` and `subject`",
    ),
    (
        "has(caller.groups)",
        "column 1: `caller` has no member `groups`: it has `address`, `claims`, `issuer`, `kind`, `name`, `namespace` and `subject`",
    ),
    ("{1.5: 1} == {}", "column 2: a key is a string, an int or a bool, not a double"),
    ("{'a': 1, 'a': 2} == {}", "column 10: a map has this key twice"),
    ("args.x ? 1 : 'a'", "column 8: both values of `? :` must be of one type, not an int and a string"),
    ("1 ? true : false", "column 1: `? :` asks a bool, and this is an int"),
    ("size(args.x)", "column 1: the expression gives an int: a condition must give a bool, as `args.amount <= 100` does"),
    ("args", "column 1: the expression gives a map: a condition must give a bool, as `args.amount <= 100` does"),
    ("true ? 1 : 2", "column 6: the expression gives an int: a condition must give a bool, as `args.amount <= 100` does"),
    ("'yes'", "column 1: the expression gives a string: a condition must give a bool, as `args.amount <= 100` does"),
    ("null", "column 1: the expression gives null: a condition must give a bool, as `args.amount <= 100` does"),
    (
        "tool.matches(args.p)",
        "column 13: the pattern of `matches` must be written out as text, so that it can be checked when the policy is accepted",
    ),
    (
        "tool.matches('a' + 'b')",
        "column 13: the pattern of `matches` must be written out as text, so that it can be checked when the policy is accepted",
    ),
    ("tool.matches('(')", "column 13: the pattern of `matches`: is no regular expression: at character 1: unclosed group"),
    (
        "tool.matches('(?=a)')",
        "column 13: the pattern of `matches`: is no regular expression: at character 1: look-around, including look-ahead and look-behind, is not supported; it could not be matched in linear time: ask with two conditions instead",
    ),
    (
        r"tool.matches('\\pL{1000}')",
        r"column 13: the pattern of `matches`: the regular expression would be slow: its repetitions multiply to more than 2 MiB; lower the counts in `{…}`, or write `[0-9]` for `\d` and `[0-9A-Za-z_]` for `\w`",
    ),
    ("args.x\n  && tool + 1", "line 2, column 11: `+` takes two ints, two doubles, two strings or two lists, not a string and an int"),
    ("'é' + 1 == 'é'", "column 5: `+` takes two ints, two doubles, two strings or two lists, not a string and an int"),
    ("/* a */ true", "column 1: unexpected token"),
];

#[test]
fn what_cannot_work_is_refused_with_its_place_and_reason() {
    for (expression, reason) in REFUSED {
        let expected =
            reason.replace("there are …", &format!("there are {FUNCTIONS}")).replace("There are …", &format!("There are {FUNCTIONS}"));
        assert_eq!(Program::compile(expression, &mut Regexps::default()).map(|_| ()), Err(expected), "{expression}");
    }
}

#[test]
fn what_is_too_long_or_too_deep_is_refused() {
    let nested = |times: usize| format!("{}1{} == [1]", "[".repeat(times), "]".repeat(times));
    let chained = |times: usize| format!("args.n{} == 1", " + 1".repeat(times));
    let choices = |times: usize| format!("{}true", "true ? true : ".repeat(times));
    let quoted = |length: usize| format!("tool == '{}'", "é".repeat(length));
    let pattern = |length: usize| format!("tool.matches('{}')", "é".repeat(length));
    for (longest, too_long, reason) in [
        (quoted(2_038), quoted(2_039), "the expression is too long: at most 2,048 characters"),
        (nested(32), nested(33), "the expression is too deep: at most 32 brackets within each other"),
        (
            chained(61),
            chained(62),
            "column 1: the expression is too deep: at most 64 levels; a chain such as `a + b + c` has one for each link",
        ),
        (choices(30), choices(65), "the expression has more than 64 question marks, those within text included: write fewer choices"),
        (
            pattern(1_024),
            pattern(1_025),
            "column 13: the pattern of `matches`: a regular expression has at most 1024 characters; this one has 1025",
        ),
    ] {
        assert!(Program::compile(&longest, &mut Regexps::default()).is_ok(), "{longest}");
        assert_eq!(Program::compile(&too_long, &mut Regexps::default()).map(|_| ()), Err(reason.to_owned()), "{too_long}");
    }
}

#[test]
fn a_place_is_a_line_and_a_column_of_characters() {
    for (expression, place) in [
        ("tool + 1", "column 6: "),
        ("'éé' + 1 == ''", "column 6: "),
        ("tool == 'é' && 1", "column 16: "),
        ("true &&\n  tool", "line 2, column 3: "),
        ("true // all of it\n  && 1", "line 2, column 6: "),
        ("true // note", ""),
        ("true &&\n\n  é", "line 3, column 3: "),
        ("true && [1].all(x, tool)", "column 20: "),
        ("[1].all(x, [2].all(y, x + y))", ""),
        ("[1].all(x, [2].all(y, x + y + tool + 1.5))", "column 36: "),
    ] {
        match (Program::compile(expression, &mut Regexps::default()), place) {
            (Ok(_), "") => {}
            (Err(error), place) => assert!(!place.is_empty() && error.starts_with(place), "{expression}: {error}"),
            (Ok(_), place) => panic!("accepted: {expression}, expected {place}"),
        }
    }
}
