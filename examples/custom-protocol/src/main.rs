//! `cargo run -p custom-protocol`: one handler on TCP and on two protocols of our own, checked over each.
#![expect(clippy::print_stdout, reason = "examples talk to their terminal")]

use custom_protocol::demo;

#[tokio::main]
async fn main() -> demo::Outcome<()> {
    let server = demo::start("demo").await?;
    for endpoint in server.local_endpoints() {
        let scheme = endpoint.scheme().to_owned();
        println!("{endpoint}");
        let (echo, answer) = demo::visit(endpoint, "Ada").await?;
        println!("    echo    {echo}\n    answer  {answer}");
        assert_eq!(echo, "hello from Ada");
        assert_eq!(answer, format!("Ada, you came over {scheme}"));
    }
    let report = server.shutdown().await;
    assert!(report.is_clean(), "{report:?}");
    Ok(())
}
