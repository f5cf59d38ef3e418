//! What is a URL, what is none and where, and options that nobody took.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn parse(url: &str) -> Endpoint {
    Endpoint::parse(url).unwrap_or_else(|error| panic!("{error}"))
}

fn parts(url: &str) -> (String, String, Option<u16>, String) {
    let Endpoint {
        scheme,
        host,
        port,
        path,
        ..
    } = parse(url);
    (scheme, host, port, path)
}

#[test]
fn a_url_has_scheme_host_port_path_and_options() {
    let part = |scheme: &str, host: &str, port, path: &str| {
        (scheme.to_owned(), host.to_owned(), port, path.to_owned())
    };
    for (url, expected) in [
        ("tcp://0.0.0.0:8080", part("tcp", "0.0.0.0", Some(8080), "")),
        ("TCP://host", part("tcp", "host", None, "")),
        ("websocket://h:1/chat", part("ws", "h", Some(1), "/chat")),
        ("quic://[::1]:8082", part("quic", "::1", Some(8082), "")),
        ("tcp://[fe80::1]", part("tcp", "fe80::1", None, "")),
        ("inproc://name?a=b", part("inproc", "name", None, "")),
        (
            "unix:///run/app.sock",
            part("unix", "", None, "/run/app.sock"),
        ),
        ("x+y.z-1://h:0/a/b?c", part("x+y.z-1", "h", Some(0), "/a/b")),
    ] {
        assert_eq!(parts(url), expected, "{url}");
    }
    assert_eq!(
        parse("tcp://h:1?a=b&flag&empty=&two=x=y").options,
        [("a", "b"), ("flag", "true"), ("empty", ""), ("two", "x=y")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
    );
}

#[test]
fn what_is_no_url_says_where_it_stops_being_one() {
    for (url, position, what) in [
        ("localhost:80", 0, "no scheme"),
        ("://h", 0, "scheme"),
        ("1tcp://h", 0, "scheme"),
        ("t_p://h", 0, "scheme"),
        ("tcp://", 6, "no host"),
        ("tcp://?a=b", 6, "no host"),
        ("tcp://:80", 6, "no host"),
        ("tcp://h:", 8, "port"),
        ("tcp://h:http", 8, "port"),
        ("tcp://h:65536", 8, "port"),
        ("tcp://h:-1", 8, "port"),
        ("tcp://h:+1", 8, "port"),
        ("tcp://::1:80", 6, "without brackets"),
        ("tcp://[::1", 6, "never closed"),
        ("tcp://[::1]80", 11, "between host and port"),
        ("tcp://[h]:80", 6, "IPv6"),
        ("tcp://a]b:80", 7, "bracket"),
        ("tcp://a b:80", 7, "character"),
        ("tcp://h:80/#x", 11, "character"),
        ("tcp://h\n:80", 7, "character"),
        ("tcp://h\u{85}:80", 7, "character"),
        ("tcp://h:80?", 11, "without a name"),
        ("tcp://h:80?=x", 11, "without a name"),
        ("tcp://h:80?a=1&&b=2", 15, "without a name"),
        ("tcp://h:80?a=1&b=2&a=3", 19, "twice"),
    ] {
        let error = Endpoint::parse(url).expect_err(url);
        assert_eq!(error.position, position, "{url:?}: {error}");
        assert!(error.what.contains(what), "{url:?}: {error}");
        let config = ConfigError::from(error);
        assert_eq!(config.field(), "endpoint");
        let text = config.to_string();
        assert!(text.contains(&format!("position {position}")), "{text}");
    }
}

#[test]
fn an_authority_is_what_a_resolver_takes() {
    assert_eq!(
        parse("tcp://[::1]:80").authority(),
        Ok("[::1]:80".to_owned())
    );
    assert_eq!(parse("tcp://h:80/p?a").authority(), Ok("h:80".to_owned()));
    let error = parse("tcp://h").authority().expect_err("no port");
    assert_eq!(error.to_string(), "endpoint of \"tcp://h\": needs a port");
}

#[test]
fn an_address_is_host_and_port_and_nothing_else() {
    let from = |address| Endpoint::from_address("tcp", address);
    assert_eq!(from("h:80"), Ok(Endpoint::new("tcp", "h", Some(80))));
    assert_eq!(from("[::]:0"), Ok(Endpoint::new("tcp", "::", Some(0))));
    for bad in [
        "", "h", ":80", "h:80/", "h:80?a", "h:80#", "a&b:80", "::1:80", "h :80",
    ] {
        let error = from(bad).expect_err(bad);
        assert_eq!(error.field(), "address");
        assert!(error.to_string().contains(&format!("\"{bad}\"")), "{error}");
    }
}

#[test]
fn options_are_taken_as_what_they_are() {
    let endpoint = parse("tcp://h:1?yes&number=7&ms=500ms&s=10s&m=2m");
    let mut options = endpoint.options();
    assert_eq!(options.take("yes", "true or false"), Ok(Some(true)));
    assert_eq!(options.take("number", "a number"), Ok(Some(7_u8)));
    assert_eq!(options.take::<u8>("absent", "a number"), Ok(None));
    let (ms, s, m) = (500, 10_000, 120_000);
    for (name, time) in [("ms", ms), ("s", s), ("m", m)] {
        let time = Duration::from_millis(time);
        assert_eq!(options.take_duration(name), Ok(Some(time)));
    }
    assert_eq!(options.take_duration("absent"), Ok(None));
    assert_eq!(options.finish(), Ok(()));
}

#[test]
fn a_value_that_an_option_cannot_have_is_named_with_what_it_must_be() {
    let endpoint = parse("tcp://h:1?number=x");
    let error = endpoint.options().take::<u8>("number", "a small number");
    let error = error.expect_err("no number").to_string();
    assert_eq!(error, "number of x: must be a small number");
    for time in [
        "",
        "5",
        "ms",
        "5h",
        "-5s",
        "5 s",
        "1.5s",
        "99999999999999999999s",
        "18446744073709551615m",
    ] {
        let endpoint = Endpoint::new("tcp", "h", None).with_option("time", time);
        let error = endpoint.options().take_duration("time").expect_err(time);
        assert_eq!(error.field(), "time");
    }
}

#[test]
fn an_option_that_nobody_took_is_an_error_that_names_it() {
    let endpoint = parse("tcp://h:1?known=1&no_delay=true");
    let mut options = endpoint.options();
    options.take::<u8>("known", "a number").expect("a number");
    assert_eq!(
        options.finish().expect_err("misspelt").to_string(),
        "no_delay of true: tcp:// has no such option here"
    );
}

#[test]
fn an_option_given_twice_in_code_is_found_at_the_end() {
    let endpoint = parse("tcp://h:1?a=1").with_option("a", 2);
    let mut options = endpoint.options();
    assert_eq!(options.take("a", "a number"), Ok(Some(1)));
    assert_eq!(options.finish().expect_err("twice").field(), "a");
}

prop_compose! {
    fn endpoints()(
        scheme in "[a-z][a-z0-9+.-]{0,8}".prop_filter("an alias", |scheme| scheme != "websocket"),
        host in prop_oneof!["[a-z0-9._-]{1,20}", Just("::1".to_owned()), Just("fe80::a%eth0".to_owned())],
        port in any::<Option<u16>>(),
        path in "(/[a-zA-Z0-9._:@-]{0,8}){0,3}",
        options in proptest::collection::btree_map("[a-z_]{1,8}", "[a-zA-Z0-9._=?/:-]{0,8}", 0..4),
    ) -> Endpoint {
        let endpoint = Endpoint::new(scheme, host, port).with_path(path);
        options.into_iter().fold(endpoint, |endpoint, (name, value)| endpoint.with_option(name, value))
    }
}

proptest! {
    #[test]
    fn what_is_displayed_is_parsed_back(endpoint in endpoints()) {
        prop_assert_eq!(Endpoint::parse(&endpoint.to_string()), Ok(endpoint));
    }

    #[test]
    fn whatever_parses_displays_as_a_url_of_the_same_meaning(url in "[a-z]{0,3}:?/?/?[a-z0-9:\\[\\]/?&=.+ #]{0,20}") {
        if let Ok(endpoint) = Endpoint::parse(&url) {
            prop_assert_eq!(Endpoint::parse(&endpoint.to_string()), Ok(endpoint));
        }
    }

    #[test]
    fn no_text_panics_and_no_error_points_behind_it(url in any::<String>(), rest in any::<String>()) {
        for text in [url.clone(), format!("tcp://{url}"), format!("tcp://h:1?{url}&{rest}")] {
            if let Err(error) = Endpoint::parse(&text) {
                prop_assert!(error.position <= text.len());
                prop_assert!(text.is_char_boundary(error.position));
            }
            let _ = Endpoint::from_address("tcp", &text);
        }
    }
}
