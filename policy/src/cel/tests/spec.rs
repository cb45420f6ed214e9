//! Cases of CEL's conformance tests (`simple/testdata`), by file, as far as the language here has what they use.

use super::*;

/// File of the conformance tests, and expressions that are true.
const TRUE: &[(&str, &[&str])] = &[
    (
        "basic",
        &[
            "0 == 0 && 42 == 42 && -1 == -1 && 0x55555555 == 1431655765 && -0x5 == -5",
            "0.0 == 0.0 && 0.1 == 1e-1 && -2.3e+1 == -23.0",
            "'' == \"\" && 'uni\\u00e9' == 'unié' && '\\101' == 'A' && '\\x41' == 'A' && r'\\n' == '\\\\n'",
            "'''a'b''' == \"a'b\" && \"\"\"a\nb\"\"\" == 'a\\nb'",
            "null == null && true != false",
            "{} == {} && {'k1': 'v1'} == {'k1': 'v1'} && [] == []",
            "true || false ? true : false",
        ],
    ),
    (
        "comparisons",
        &[
            "1 == 1.0 && !(1 == 1.1) && 1.0 == 1",
            "[1, 2, 3] == [1, 2, 3] && [1, 2, 3] != [1, 3, 2] && [1.0, 2.0, 3] == [1, 2, 3.0] && [[1]] == [[1.0]]",
            "{'k': 'v', 'k2': 1} == {'k2': 1.0, 'k': 'v'} && {'k': 'v'} != {'k': 'w'} && {'k': 'v'} != {'k2': 'v'}",
            "{1: 'a'} != {'1': 'a'} && {true: 1} == {true: 1}",
            "'a' == 'a' && 'a' != 'A' && 'Ελλάς' != 'Ελλασ'",
            "-1 < 0 && !(0 < 0) && 0 <= 0 && 2 >= 1 && 1 > 0 && !(1 > 1)",
            "1 < 1.5 && 1.5 > 1 && 9007199254740993 > 9007199254740992.0 && 9007199254740993 != 9007199254740992.0",
            "9223372036854775807 < 9223372036854775808.0 && -9223372036854775808 == -9223372036854775808.0",
            "-9223372036854775808 > -9223372036854777856.0 && 1 < 1e300 && 1 > -1e300",
            "'a' < 'b' && 'A' < 'a' && '' < 'a' && 'abc' < 'abd' && 'é' > 'z' && '\\U0001F600' > '\\uffff'",
            "false < true && !(true < true) && false <= false && true >= false",
            "1 in [1, 2] && !(3 in [1, 2]) && !(1 in []) && 1.0 in [1] && 'a' in {'a': 1} && !('b' in {'a': 1})",
            "1.0 in {1: 1} && !(1.5 in {1: 1}) && true in {true: 1}",
        ],
    ),
    (
        "integer_math",
        &[
            "40 + 2 == 42 && 42 - 12 - 30 == 0 && 6 * 7 == 42 && 10 / 3 == 3 && -10 / 3 == -3 && 7 % -3 == 1 && -7 % 3 == -1",
            "-(5) == -5 && -(-5) == 5 && 2 + 3 * 4 == 14 && (2 + 3) * 4 == 20",
            "9223372036854775806 + 1 == 9223372036854775807",
        ],
    ),
    ("fp_math", &["4.25 + 15.25 == 19.5 && 42.0 - 1.5 == 40.5 && 2.5 * 2.0 == 5.0 && 5.0 / 2.0 == 2.5 && -(1.5) == -1.5"]),
    (
        "lists",
        &[
            "[1] + [2] == [1, 2] && [] + [] == [] && [1] + [] == [1]",
            "[7, 8, 9][0] == 7 && [7, 8, 9][2] == 9 && ['foo'][0] == 'foo'",
            "size([]) == 0 && size([1, 2]) == 2 && [1, 2].size() == 2",
            "'elephant' in ['elephant', 3.5, null]",
        ],
    ),
    (
        "fields",
        &[
            "{'name': 1}.name == 1 && {'a': {'b': 2}}.a.b == 2 && {'name': 1}['name'] == 1 && {true: 5}[true] == 5 && {0: 1}[0] == 1",
            "has({'a': 1}.a) && !has({'a': 1}.b)",
            "size({}) == 0 && size({'a': 1, 'b': 2}) == 2",
        ],
    ),
    (
        "logic",
        &[
            "true && true && !(true && false) && !(false && true)",
            "true || false && !(false || false)",
            "true || 1 / 0 > 2",
            "1 / 0 > 2 || true",
            "!(false && 1 / 0 > 2)",
            "!(1 / 0 > 2 && false)",
            "(true ? 1 : 2) == 1 && (false ? 1 : 2) == 2 && (true ? true : 1 / 0 > 2) && (false ? 1 / 0 > 2 : true)",
            "!false && !!true",
        ],
    ),
    (
        "macros",
        &[
            "[1, 2, 3].exists(e, e > 1) && ![1, 2, 3].exists(e, e > 3) && ![].exists(e, e == 2) && [1, 'foo', 3].exists(e, e != '1')",
            "[1, 'foo', 3].exists(e, e == 3) && [1, 2, 3].exists(e, 6 / (2 - e) == 6)",
            "{'key1': 1, 'key2': 2}.exists(k, k == 'key2') && !{'key1': 1}.exists(k, k == 'key3')",
            "[1, 2, 3].all(e, e > 0) && ![1, 2, 3].all(e, e == 2) && [].all(e, e > 0) && ![1, 2, 3].all(e, 6 / (2 - e) == 6)",
            "{'key1': 1, 'key2': 2}.all(k, k.startsWith('key'))",
            "![].exists_one(a, a == 7) && [7].exists_one(a, a == 7) && ![7, 7].exists_one(a, a == 7) && [7, 8].exists_one(a, a == 7)",
            "[].map(n, n / 2) == [] && [2, 4, 6].map(n, n / 2) == [1, 2, 3] && [1, 2].map(n, [n].map(m, m + n)) == [[2], [4]]",
            "[1, 2, 3].map(n, n > 1, n * 2) == [4, 6]",
            "[].filter(n, n % 2 == 0) == [] && [1, 2, 3, 4].filter(n, n % 2 == 0) == [2, 4] && {'a': 1, 'b': 2}.filter(k, k > 'a') == ['b']",
            "['signer'].filter(s, ['artifact'].all(a, true)) == ['signer'] && ['s'].all(s, ['a'].all(a, true))",
            "[1].exists(x, [2].exists(y, x < y)) && [1, 2].map(x, x).exists(x, x == 2)",
        ],
    ),
    (
        "string",
        &[
            "size('') == 0 && size('four') == 4 && size('πέντε') == 5 && '😀'.size() == 1",
            "'foobar'.startsWith('foo') && !'foobar'.startsWith('bar') && 'foobar'.startsWith('') && ''.startsWith('')",
            "'foobar'.endsWith('bar') && 'foobar'.endsWith('') && !'foobar'.endsWith('foo')",
            "'foobar'.contains('oba') && 'foobar'.contains('') && !'foobar'.contains('x') && '😀😁😑'.contains('😁')",
            "'hubba'.matches('ubb') && ''.matches('foo|$') && !'grey'.matches('gr(a|o)y') && 'abc'.matches('^[a-c]+$') && 'éé'.matches('^.{2}$')",
            "'he' + 'llo' == 'hello' && '' + '' == '' && 'a' + 'é' == 'aé'",
        ],
    ),
    (
        "string_ext",
        &[
            "'TacoCat'.lowerAscii() == 'tacocat' && 'TacoCÆt'.lowerAscii() == 'tacocÆt' && 'tacoCat'.upperAscii() == 'TACOCAT'",
            "'tacocat'.substring(4) == 'cat' && 'tacocat'.substring(7) == '' && 'tacocat'.substring(0, 4) == 'taco'",
            "'tacocat'.substring(4, 4) == '' && 'ta©o©αT'.substring(2, 6) == '©o©α' && 'ta©o©αT'.substring(7, 7) == ''",
            "' \\f\\n\\r\\t\\vtext  '.trim() == 'text' && '\\u0085\\u00a0\\u1680text\\u2000\\u3000'.trim() == 'text'",
            "'\\u180etext\\u200b\\u200c\\u200d\\u2060\\ufeff'.trim() == '\\u180etext\\u200b\\u200c\\u200d\\u2060\\ufeff'",
            "'hello world'.split(' ') == ['hello', 'world'] && 'hello'.split('') == ['h', 'e', 'l', 'l', 'o'] && 'a,b,'.split(',') == ['a', 'b', '']",
        ],
    ),
    (
        "conversions",
        &[
            "int(42) == 42 && int(1.9) == 1 && int(-7.9) == -7 && int('987') == 987 && int('-1') == -1 && int(11.5) == 11",
            "double(1) == 1.0 && double(3.1416) == 3.1416 && double('-2.5e1') == -25.0 && double(9007199254740993) == 9007199254740992.0",
            "string(123) == '123' && string(-456) == '-456' && string(123.456) == '123.456' && string(true) == 'true' && string('a') == 'a'",
            "type(1) == int && type(1.5) == double && type('') == string && type([]) == list && type({}) == map && type(null) == null_type",
            "type(true) == bool && type(int) == type && type(type(1)) == type && type(1) != double",
        ],
    ),
];

/// Expressions that give an error.
const ERRORS: &[&str] = &[
    "9223372036854775807 + 1 > 0",
    "-9223372036854775808 - 1 < 0",
    "5000000000 * 5000000000 > 0",
    "(-9223372036854775807 - 1) * -1 > 0",
    "(-9223372036854775807 - 1) / -1 > 0",
    "(-9223372036854775807 - 1) % -1 > 0",
    "-(-9223372036854775807 - 1) > 0",
    "15 / 0 == 15",
    "34 % 0 == 1",
    "[0, 1][3] == 0",
    "[0][-1] == 0",
    "[][0] == 0",
    "{'a': 1}['b'] == 1",
    "{'a': 1}.b == 1",
    "{0: 1}[0.1] == 1",
    "true && 1 / 0 > 2",
    "1 / 0 > 2 && true",
    "false || 1 / 0 > 2",
    "!(1 / 0 > 2)",
    "(1 / 0 > 2) ? true : true",
    "(true ? 1 / 0 : 1) == 1",
    "[1, 2, 3].all(e, 6 / (2 - e) != 7)",
    "[1, 2, 3].exists(e, 6 / (2 - e) == 7)",
    "[1, 2, 3].exists_one(e, 6 / (2 - e) == 6)",
    "[2, 1, 0].map(n, 4 / n) == []",
    "[3, 2, 1, 0].filter(n, 12 / n > 4) == []",
    "'tacocat'.substring(40) == ''",
    "'tacocat'.substring(-1) == ''",
    "'tacocat'.substring(1, 50) == ''",
    "'tacocat'.substring(49, 50) == ''",
    "'tacocat'.substring(4, 3) == ''",
    "int(1e99) == 1",
    "int(9223372036854775808.0) == 1",
    "int('x') == 1",
    "double('x') == 1.0",
];

#[test]
fn what_the_specification_says_is_true_is_true() {
    for (file, expressions) in TRUE {
        for expression in *expressions {
            assert_eq!(ask(expression, "{}"), Truth::True, "{file}: {expression}");
            // So it was not the parts that could not be decided which made it true.
            assert_eq!(ask(&format!("!({expression})"), "{}"), Truth::False, "{file}: {expression}");
        }
    }
}

#[test]
fn what_the_specification_says_is_an_error_is_undecided() {
    for expression in ERRORS {
        assert_eq!(short(&ask(expression, "{}")), "undecided", "{expression}");
    }
}
