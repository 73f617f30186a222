//! What a member says that it waits for, for `quorate status --explain`. Adds no opinion.

use super::connection::Address;
use super::dial::Dialler;
use quorate_etcd_api::quorate::diagnostics_client::DiagnosticsClient;
use quorate_etcd_api::quorate::{Cause, ExplainRequest, ExplainResponse};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::time::Duration;

/// What one endpoint said, or why it said nothing.
pub(super) type Answer = Result<ExplainResponse, String>;

pub(super) async fn ask(dialler: &Dialler, address: &Address, timeout: Duration) -> Answer {
    let mut client = DiagnosticsClient::new(dialler.dial(address).await?);
    match tokio::time::timeout(timeout, client.explain(ExplainRequest {})).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) if status.code() == tonic::Code::Unimplemented => {
            Err("this server cannot explain itself: it is not Quorate, or an older one".to_owned())
        }
        Ok(Err(status)) => Err(status.message().to_owned()),
        Err(_) => Err(format!("no answer within {timeout:?}")),
    }
}

pub(super) fn as_text(address: &Address, answer: &Answer) -> String {
    let mut text = format!("\n{address}: ");
    match answer {
        Err(why) => text.push_str(why),
        Ok(ExplainResponse { state, causes, .. }) => {
            text.push_str(state);
            if causes.is_empty() {
                text.push_str("; nothing waits");
            }
            for Cause { text: cause, advice } in causes {
                // Writing to a string cannot fail.
                let _infallible = write!(text, "\n  - {cause}");
                if !advice.is_empty() {
                    let _infallible = write!(text, "\n    -> {advice}");
                }
            }
        }
    }
    text + "\n"
}

pub(super) fn as_json(answer: &Answer) -> Value {
    let cause = |cause: &Cause| match cause.advice.as_str() {
        "" => json!({ "text": cause.text }),
        advice => json!({ "text": cause.text, "advice": advice }),
    };
    match answer {
        Ok(ExplainResponse { state, causes, .. }) => {
            json!({ "state": state, "causes": causes.iter().map(cause).collect::<Vec<_>>() })
        }
        Err(why) => json!({ "error": why }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_stand_below_each_other_with_what_to_do_about_them() {
        let address: Address = "127.0.0.1:2379".parse().unwrap();
        let calm = ExplainResponse { state: "n1 leads in term 2".to_owned(), ..Default::default() };
        let text = as_text(&address, &Ok(calm.clone()));
        assert_eq!(text, "\n127.0.0.1:2379: n1 leads in term 2; nothing waits\n");
        let cause = |text: &str, advice: &str| Cause { text: text.into(), advice: advice.into() };
        let causes = vec![cause("n3 is silent", "start n3"), cause("a read waits", "")];
        let busy = Ok(ExplainResponse { causes, ..calm });
        let expected = "\n127.0.0.1:2379: n1 leads in term 2\n  - n3 is silent\n    -> start n3\n  \
                        - a read waits\n";
        assert_eq!(as_text(&address, &busy), expected);
        let shown = as_json(&busy).to_string();
        assert!(shown.contains(r#"{"advice":"start n3","text":"n3 is silent"}"#), "{shown}");
        assert!(shown.contains(r#"{"text":"a read waits"}"#), "{shown}");
    }
}
