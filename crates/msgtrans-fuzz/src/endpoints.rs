//! Endpoint URLs and the configurations they spell: what is read is written the same.

use msgtrans_transport::Endpoint;

/// A URL that is read is written as one that reads the same.
pub(crate) fn endpoint(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(endpoint) = Endpoint::parse(text) {
        let written = endpoint.to_string();
        assert_eq!(
            Endpoint::parse(&written).as_ref(),
            Ok(&endpoint),
            "{text:?}"
        );
        assert!(
            written
                .chars()
                .all(|c| !c.is_control() && !c.is_whitespace())
        );
        assert!(!endpoint.host().contains(['[', ']', '/', '?']));
        assert_eq!(endpoint.authority().is_ok(), endpoint.port().is_some());
    }
    if let Ok(endpoint) = Endpoint::from_address("tcp", text) {
        let authority = endpoint.authority().expect("an address has a port");
        let again = Endpoint::from_address("tcp", &authority);
        assert_eq!(again.ok(), Some(endpoint), "{text:?}");
    }
}

#[cfg(feature = "config")]
/// The options of every protocol: a configuration that is taken is valid, and the URL it tells makes the same one.
pub(crate) fn config(bytes: &[u8]) {
    use msgtrans::BuiltIn;
    use msgtrans_transport::Schemes;

    const STARTS: [&str; 8] = [
        "tcp://h:1",
        "tls://[::1]:2",
        "ws://h:3",
        "wss://h:4",
        "quic://h:5",
        "unix:///run/s",
        "inproc://name",
        "",
    ];
    let mut input = crate::input::Input::new(bytes);
    let choice = input.byte();
    let Ok(rest) = std::str::from_utf8(input.rest()) else {
        return;
    };
    let start = STARTS[usize::from(choice % 8)];
    let Ok(endpoint) = Endpoint::parse(&format!("{start}{rest}")) else {
        return;
    };
    if choice & 8 == 0 {
        let told = BuiltIn::server(&endpoint).ok().map(|config| {
            assert!(config.validate().is_ok(), "{endpoint}");
            config.endpoint()
        });
        if let Some(told) = told {
            let again = BuiltIn::server(&told).map(|config| config.endpoint());
            assert_eq!(again.ok().as_ref(), Some(&told), "{endpoint}");
        }
    } else {
        let told = BuiltIn::connector(&endpoint).ok().map(|config| {
            assert!(config.validate().is_ok(), "{endpoint}");
            config.endpoint()
        });
        if let Some(told) = told {
            let again = BuiltIn::connector(&told).map(|config| config.endpoint());
            assert_eq!(again.ok().as_ref(), Some(&told), "{endpoint}");
        }
    }
}
