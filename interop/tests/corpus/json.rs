//! Bodies that two parsers could read differently: rules 1 to 3.

use crate::request::{Variant, arguments, call, danger, params, post, safe, variant};

pub fn all() -> Vec<Variant> {
    [duplicates(), lookalikes(), encodings(), syntax(), numbers_and_depth()].into_iter().flatten().collect()
}

fn duplicates() -> Vec<Variant> {
    let v = |name, request| variant(2, name, request);
    let twice = |members: &str| post(format!(r#"{{"jsonrpc":"2.0","id":1,{members}}}"#));
    vec![
        v("`name` twice, safe then danger", params(r#""name":"safe","name":"danger""#)),
        v("`name` twice, danger then safe", params(r#""name":"danger","name":"safe""#)),
        v("`name` twice, both safe", params(r#""name":"safe","name":"safe""#)),
        v("`name` three times", params(r#""name":"safe","name":"danger","name":"safe""#)),
        v("`name`, then `n\\u0061me`", params(r#""name":"safe","n\u0061me":"danger""#)),
        v("`n\\u0061me`, then `name`", params(r#""n\u0061me":"danger","name":"safe""#)),
        v("`name`, then all of it escaped", params(r#""name":"safe","\u006e\u0061\u006d\u0065":"danger""#)),
        v("`name`, then `\\u006Eame` in upper case", params(r#""name":"safe","\u006Eame":"danger""#)),
        v("`name` twice around `arguments`", params(r#""name":"safe","arguments":{},"name":"danger""#)),
        v("`method` twice, list then call", twice(r#""method":"tools/list","method":"tools/call","params":{"name":"danger"}"#)),
        v("`method` twice, call then list", twice(r#""method":"tools/call","method":"tools/list","params":{"name":"danger"}"#)),
        v("`method`, then `meth\\u006fd`", twice(r#""method":"ping","meth\u006fd":"tools/call","params":{"name":"danger"}"#)),
        v("`params` twice", twice(r#""method":"tools/call","params":{"name":"safe"},"params":{"name":"danger"}"#)),
        v("`params`, then `p\\u0061rams`", twice(r#""method":"tools/call","params":{"name":"safe"},"p\u0061rams":{"name":"danger"}"#)),
        v("`id` twice", post(r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"tools/call","params":{"name":"safe"}}"#)),
        v("`id`, then `\\u0069d`", post(r#"{"jsonrpc":"2.0","id":1,"\u0069d":2,"method":"tools/call","params":{"name":"safe"}}"#)),
        v("`jsonrpc` twice", post(r#"{"jsonrpc":"1.0","jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"safe"}}"#)),
        v("`arguments` twice", params(r#""name":"echo","arguments":{"a":1},"arguments":{"a":2}"#)),
        v("a key of `arguments` twice", arguments(r#"{"a":1,"a":2}"#)),
        v("a key of `arguments` twice, escaped", arguments(r#"{"a":1,"\u0061":2}"#)),
        v("a key of `arguments` twice, `\\/` and `/`", arguments(r#"{"a/b":1,"a\/b":2}"#)),
        v("a key of `arguments` twice, a pair of surrogates and the character", arguments(r#"{"😀":1,"\ud83d\ude00":2}"#)),
        v("the empty key twice", arguments(r#"{"":1,"":2}"#)),
        v("a key twice, deep in `arguments`", arguments(r#"{"a":{"b":{"c":1,"c":2}}}"#)),
        v("a key twice in an object of an array", arguments(r#"{"a":[{"b":1,"b":2}]}"#)),
        v("`__proto__` twice", arguments(r#"{"__proto__":1,"__proto__":2}"#)),
        v("`_meta` twice", params(r#""name":"safe","_meta":{},"_meta":{}"#)),
        v("`progressToken` twice", params(r#""name":"safe","_meta":{"progressToken":1,"progressToken":2}"#)),
        v("`name` twice among a thousand keys", params(format!(r#""name":"safe",{}"name":"danger""#, many_keys()))),
    ]
}

fn many_keys() -> String {
    let keys: Vec<_> = (0..1000).map(|key| format!(r#""k{key}":{key},"#)).collect();
    keys.concat()
}

fn lookalikes() -> Vec<Variant> {
    let v = |name, key: &str| variant(2, name, params(format!(r#""name":"safe","{key}":"danger""#)));
    let top = |name, member: &str| {
        variant(2, name, post(format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"safe"}},{member}}}"#)))
    };
    vec![
        v("`Name` beside `name`", "Name"),
        v("`NAME` beside `name`", "NAME"),
        v("`name\\u0000` beside `name`", r"name\u0000"),
        v("`\\u0000name` beside `name`", r"\u0000name"),
        v("`name ` beside `name`", "name "),
        v("` name` beside `name`", " name"),
        v("`na\\tme` beside `name`", r"na\tme"),
        v("full-width `ｎame` beside `name`", "ｎame"),
        v("`name` with a zero-width space", "na\u{200b}me"),
        v("`name` with a byte order mark", "name\u{feff}"),
        v("`name` with a soft hyphen", "na\u{ad}me"),
        v("`Arguments` beside `name`", "Arguments"),
        v("`argument\\u017f`, which folds to `arguments`", r"argument\u017f"),
        v("`tas\\u212aId`, which folds to `taskId`", r"tas\u212aId"),
        v("`_Meta`", "_Meta"),
        top("`Method` beside `method`", r#""Method":"tools/list""#),
        top("`METHOD`, escaped, beside `method`", r#""\u004dETHOD":"tools/list""#),
        top("`Params` beside `params`", r#""Params":{"name":"danger"}"#),
        top("`params\\u0000` beside `params`", r#""params\u0000":{"name":"danger"}"#),
        top("`param\\u017f`, which folds to `params`", r#""param\u017f":{"name":"danger"}"#),
        top("`ID` beside `id`", r#""ID":2"#),
        top("`\\u0130d`, which folds to `id`", r#""\u0130d":2"#),
        top("`JsonRpc` beside `jsonrpc`", r#""JsonRpc":"1.0""#),
        variant(2, "keys of `arguments` that only look alike", arguments(r#"{"path":"/a","Path":"/b"}"#)),
        variant(2, "`Name` alone", params(r#""Name":"danger""#)),
        variant(2, "`ProgressToken` in `_meta`", params(r#""name":"safe","_meta":{"ProgressToken":1}"#)),
        variant(
            2,
            "the version's key of `_meta` in another case",
            params(r#""name":"safe","_meta":{"io.modelcontextprotocol/ProtocolVersion":"2026-07-28"}"#),
        ),
    ]
}

fn encodings() -> Vec<Variant> {
    let v = |name, request| variant(2, name, request);
    let body = danger();
    let little: Vec<u8> = body.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let big: Vec<u8> = body.encode_utf16().flat_map(u16::to_be_bytes).collect();
    let wide: Vec<u8> = body.chars().flat_map(|c| (c as u32).to_le_bytes()).collect();
    let marked = |mark: &[u8], body: &[u8]| post([mark, body].concat());
    let in_argument = |bytes: &[u8]| {
        post([br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"safe","arguments":{"a":""#, bytes, br#""}}}"#].concat())
    };
    let in_name = |bytes: &[u8]| post([br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":""#, bytes, br#""}}"#].concat());
    let typed = |media: &str| post(danger()).but(format!("Content-Type: {media}"));
    vec![
        v("UTF-8 with a byte order mark", marked(b"\xEF\xBB\xBF", body.as_bytes())),
        v("UTF-8 with two byte order marks", marked(b"\xEF\xBB\xBF\xEF\xBB\xBF", body.as_bytes())),
        v("UTF-16, little end first", post(&little)),
        v("UTF-16, big end first", post(&big)),
        v("UTF-16, little end first, with a mark", marked(b"\xFF\xFE", &little)),
        v("UTF-16, big end first, with a mark", marked(b"\xFE\xFF", &big)),
        v("UTF-16, declared", post(&little).but("Content-Type: application/json; charset=utf-16le")),
        v("UTF-32", post(&wide)),
        v("UTF-32 with a mark", marked(b"\xFF\xFE\x00\x00", &wide)),
        v("a byte that is not UTF-8 in an argument", in_argument(b"\xFF")),
        v("Latin-1 in an argument", in_argument(b"caf\xE9")),
        v("an overlong slash in an argument", in_argument(b"\xC0\xAF")),
        v("an overlong NUL in the name", in_name(b"danger\xC0\x80")),
        v("a surrogate in UTF-8", in_argument(b"\xED\xA0\x80")),
        v("a cut character in the name", in_name(b"danger\xE2\x82")),
        v("a continuation byte in the name", in_name(b"danger\x80")),
        v("an escaped high surrogate alone", arguments(r#"{"a":"\ud800"}"#)),
        v("an escaped low surrogate alone", arguments(r#"{"a":"\udc00"}"#)),
        v("escaped surrogates in the wrong order", arguments(r#"{"a":"\ude00\ud83d"}"#)),
        v("half a surrogate in the name", params(r#""name":"danger\ud800""#)),
        v("half a surrogate in a key", arguments(r#"{"\ud800":1}"#)),
        v("half a surrogate in the id", post(r#"{"jsonrpc":"2.0","id":"\ud800","method":"tools/call","params":{"name":"safe"}}"#)),
        v("charset iso-8859-1", typed("application/json; charset=iso-8859-1")),
        v("charset utf-7", typed("application/json; charset=utf-7")),
        v("charset utf-16", typed("application/json; charset=utf-16")),
        v("charset in quotes: utf-16", typed("application/json; charset=\"utf-16\"")),
        v("charset twice", typed("application/json; charset=utf-8; charset=utf-16")),
        v("charset that nobody knows", typed("application/json; charset=x-none")),
        v("charset without a value", typed("application/json; charset=")),
        v("UTF-7 body", post(body.replace("danger", "+AGQ-anger")).but("Content-Type: application/json; charset=utf-7")),
    ]
}

fn syntax() -> Vec<Variant> {
    let v = |name, body: String| variant(2, name, post(body));
    let value = |name, value: &str| variant(2, name, arguments(format!(r#"{{"a":{value}}}"#)));
    vec![
        v("two documents", format!("{}{}", safe(), danger())),
        v("two documents, a line each", format!("{}\n{}", safe(), danger())),
        v("something behind the document", format!("{}]", danger())),
        v("a NUL behind the document", format!("{}\0", danger())),
        v("a trailing comma", r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"danger",}}"#.to_owned()),
        v("a comment before the document", format!("/* */{}", danger())),
        v("a comment that hides a name", call(r#""name":"safe"/*,"x":"*/,"name":"danger"/*"*/"#)),
        v("a line comment", format!("//\n{}", danger())),
        v("single quotes", danger().replace('"', "'")),
        v("keys without quotes", r#"{jsonrpc:"2.0",id:1,method:"tools/call",params:{name:"danger"}}"#.to_owned()),
        v("a vertical tab first", format!("\u{b}{}", danger())),
        v("a form feed first", format!("\u{c}{}", danger())),
        v("a no-break space first", format!("\u{a0}{}", danger())),
        v("a line separator first", format!("\u{2028}{}", danger())),
        v("a record separator first", format!("\u{1e}{}", danger())),
        v("an anti-hijacking prefix", format!(")]}}',\n{}", danger())),
        v("the document cut off", danger()[..danger().len() - 2].to_owned()),
        v("no body", String::new()),
        v("white space alone", " \r\n\t".to_owned()),
        v("null", "null".to_owned()),
        v("a string with a message in it", format!("{:?}", danger())),
        v("a number", "42".to_owned()),
        v("a raw line feed in the name", call("\"name\":\"danger\n\"")),
        v("a raw tab in the name", call("\"name\":\"danger\t\"")),
        v("a raw NUL in a key", call("\"name\":\"safe\",\"name\0\":\"danger\"")),
        v("an escape that JSON has not", call(r#""name":"\x64anger""#)),
        v("an escape in braces", call(r#""name":"\u{64}anger""#)),
        v("an escape of three digits", call(r#""name":"\u064anger""#)),
        v("an escaped apostrophe", call(r#""name":"danger\'""#)),
        value("NaN", "NaN"),
        value("Infinity", "Infinity"),
        value("-Infinity", "-Infinity"),
        value("a hexadecimal number", "0x10"),
        value("a leading zero", "010"),
        value("a leading plus", "+1"),
        value("no digit before the point", ".5"),
        value("no digit behind the point", "5."),
        value("True", "True"),
        value("undefined", "undefined"),
        value("two commas", "[1,,2]"),
        value("a trailing comma in an array", "[1,]"),
    ]
}

fn numbers_and_depth() -> Vec<Variant> {
    let number = |rule, name, number: &str| variant(rule, name, arguments(format!(r#"{{"a":{number}}}"#)));
    let deep = |name, depth: usize| variant(2, name, arguments(format!(r#"{{"a":{}{}}}"#, "[".repeat(depth), "]".repeat(depth))));
    vec![
        number(2, "1e400", "1e400"),
        number(2, "-1e400", "-1e400"),
        number(2, "1e-500", "1e-500"),
        number(2, "1e99999999999999999999", "1e99999999999999999999"),
        number(2, "101 digits", &"1".repeat(101)),
        number(2, "5000 digits", &"1".repeat(5000)),
        number(2, "5000 digits behind the point", &format!("0.{}", "1".repeat(5000))),
        number(3, "2^53 + 1", "9007199254740993"),
        number(3, "2^64 + 1", "18446744073709551617"),
        number(3, "-0", "-0"),
        deep("nesting of 65", 62),
        deep("nesting of 100", 97),
        deep("nesting of 128", 125),
        deep("nesting of 1000", 997),
        deep("nesting of 100000", 99_997),
        variant(2, "objects nested 1000 deep", arguments(format!("{}1{}", r#"{"a":"#.repeat(1000), "}".repeat(1000)))),
        variant(2, "arrays that nobody closes", post("[".repeat(100_000))),
    ]
}
