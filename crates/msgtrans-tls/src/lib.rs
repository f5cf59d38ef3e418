//! TLS set-up shared by the secure protocols: certificates, pins, development certificates.
