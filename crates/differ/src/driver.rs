//! Asks both systems the same thing at the same time, one request after the other, and compares what
//! they say. Must not know what is asked, nor why an answer may differ: `explained` does.

use crate::answer::{self, Answer};
use crate::chance::Chance;
use crate::explained::{self, Case};
use crate::known::Known;
use crate::method::{self, Method};
use crate::report::{self, Difference, Report};
use crate::systems::Pair;
use crate::twins::Twins;
use crate::watches::Streams;
use crate::wire::Link;
use anyhow::bail;
use bytes::Bytes;
use prost::Message;
use serde_json::Value;

/// One request of this many, where both ways are open, takes the gateway.
const GATEWAY_SHARE: u64 = 4;

/// Where a system calls something by a name of its own making.
const NAMED_BY_THE_SERVER: [(&Method, &str); 5] = [
    (&method::LEASE_GRANT, "/ID"),
    (&method::MEMBER_ADD, "/member/ID"),
    (&method::AUTHENTICATE, "/token"),
    (&method::CAMPAIGN, "/leader/key"),
    (&method::CAMPAIGN, "/leader/lease"),
];

/// Two systems with the same past, and what is known of it.
pub(crate) struct Driver {
    pub(crate) chance: Chance,
    pub(crate) pair: Pair,
    pub(crate) known: Known,
    pub(crate) twins: Twins,
    pub(crate) streams: Streams,
    pub(crate) report: Report,
    pub(crate) seed: u64,
    /// How many requests the two have had.
    pub(crate) operation_count: u64,
    pub(crate) keeps_going: bool,
    /// Whether each request is told.
    pub(crate) traces: bool,
}

/// What is asked of both.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) method: &'static Method,
    /// As the reference gets it.
    pub(crate) message: Bytes,
    /// The same in JSON, if it has a form there.
    pub(crate) json: Option<Value>,
    pub(crate) by_gateway: bool,
    /// Its path there.
    pub(crate) gateway: String,
    /// The reference's token.
    pub(crate) token: Option<String>,
    /// Whose that is.
    pub(crate) user: String,
}

impl Ask {
    pub(crate) fn new(method: &'static Method, message: &impl Message) -> Self {
        let message = Bytes::from(message.encode_to_vec());
        let json = (method.request_json)(&message).ok();
        let (token, user) = (None, "nobody".to_owned());
        let gateway = method.gateway.to_owned();
        Self { method, message, json, by_gateway: false, gateway, token, user }
    }

    /// The same for us, who call some things otherwise.
    pub(crate) fn to_ours(&self, twins: &Twins) -> anyhow::Result<Self> {
        let mut ask = self.clone();
        ask.token = self.token.as_deref().map(|token| twins.ours(token).to_owned());
        if let Some(json) = self.json.as_ref().and_then(|json| twins.to_ours(json)) {
            ask.message = (self.method.request_bytes)(&json)?.into();
            ask.json = Some(json);
        }
        Ok(ask)
    }

    /// Asks one system.
    pub(crate) async fn of(&self, link: &Link) -> Answer {
        let token = self.token.as_deref();
        if let (true, Some(json)) = (self.by_gateway, &self.json) {
            let (path, body) = (self.gateway.as_str(), json.to_string());
            // An answer that has no end.
            let is_endless = [&method::WATCH, &method::OBSERVE].contains(&self.method);
            return if is_endless {
                link.line(path, token, &body).await
            } else {
                link.page("POST", path, token, &body).await
            };
        }
        let path = self.method.grpc;
        let streams = [&method::LEASE_KEEP_ALIVE, &method::OBSERVE, &method::WATCH];
        let answer = if streams.contains(&self.method) {
            link.first(path, token, self.message.clone()).await
        } else {
            link.unary(path, token, self.message.clone()).await
        };
        match answer.map(|message| (self.method.response_json)(&message)) {
            Ok(Ok(json)) => Answer::Given(json),
            Ok(Err(error)) => Answer::Silence(format!("not a message: {error:#}")),
            Err(answer) => answer,
        }
    }

    /// What is asked, for a person.
    pub(crate) fn shown(&self) -> String {
        let way = if self.by_gateway { "gateway" } else { "gRPC" };
        let message = match &self.json {
            Some(json) => json.to_string(),
            None => format!("bytes {:02x?}", self.message),
        };
        format!("{} by {way} as {}: {message}", self.method.name, self.user)
    }
}

async fn raw(
    link: &Link,
    path: &str,
    token: Option<&str>,
    message: Bytes,
) -> Result<Bytes, Answer> {
    // The one of these that has no end.
    if path == method::HEALTH_WATCH {
        link.first(path, token, message).await
    } else {
        link.unary(path, token, message).await
    }
}

/// Many messages as one answer.
fn list_of(answer: Result<Vec<Bytes>, Answer>, json: fn(&[u8]) -> anyhow::Result<Value>) -> Answer {
    let list: Result<anyhow::Result<Vec<Value>>, Answer> =
        answer.map(|messages| messages.iter().map(|message| json(message)).collect());
    match list {
        Ok(Ok(list)) => Answer::Given(Value::Array(list)),
        Ok(Err(error)) => Answer::Silence(format!("not a message: {error:#}")),
        Err(answer) => answer,
    }
}

impl Driver {
    /// Asks both, as somebody who is drawn, on a way that is drawn; the reference's answer.
    ///
    /// # Errors
    ///
    /// If the two differ, or one does not answer.
    pub(crate) async fn ask(
        &mut self,
        method: &'static Method,
        message: &impl Message,
    ) -> anyhow::Result<Answer> {
        let mut ask = Ask::new(method, message);
        (ask.user, ask.token) = self.known.speaker(&mut self.chance);
        ask.by_gateway = ask.json.is_some() && self.chance.one_in(GATEWAY_SHARE);
        if self.chance.one_in(GATEWAY_SHARE) {
            ask.gateway = method.old_gateway(self.chance.one_in(2));
        }
        self.carry_out(ask).await
    }

    /// The same as somebody who may do everything.
    pub(crate) async fn ask_as_root(
        &mut self,
        method: &'static Method,
        message: &impl Message,
    ) -> anyhow::Result<Answer> {
        let mut ask = Ask::new(method, message);
        (ask.user, ask.token) = self.known.root();
        self.carry_out(ask).await
    }

    pub(crate) async fn carry_out(&mut self, ask: Ask) -> anyhow::Result<Answer> {
        let for_us = ask.to_ours(&self.twins)?;
        self.trace(|| ask.shown());
        let (reference, ours) =
            tokio::join!(ask.of(&self.pair.reference.link), for_us.of(&self.pair.ours.link));
        self.judge(&ask, reference, ours).await
    }

    /// Compares the answers to a request.
    pub(crate) async fn judge(
        &mut self,
        ask: &Ask,
        reference: Answer,
        ours: Answer,
    ) -> anyhow::Result<Answer> {
        self.count(ask.method.name);
        if ask.by_gateway {
            self.report.count_gateway(ask.method.name);
        }
        self.learn_names(ask.method, &reference, &ours);
        let healing = self.compare(Some(ask), &ask.shown(), &reference, ours)?;
        if healing {
            self.heal(ask, &reference).await?;
        }
        self.known.learn(&reference);
        Ok(reference)
    }

    /// Notes what each calls a thing that it has made.
    fn learn_names(&mut self, asked: &Method, reference: &Answer, ours: &Answer) {
        if *asked == method::LOCK {
            self.twins.learn_claim(reference, ours);
        }
        for (method, pointer) in NAMED_BY_THE_SERVER {
            if asked == method {
                self.twins.learn(reference, ours, pointer);
            }
        }
    }

    /// Does to ours alone, as root, what the reference let somebody do who may not.
    async fn heal(&mut self, ask: &Ask, reference: &Answer) -> anyhow::Result<()> {
        let mut again = ask.clone();
        (again.user, again.token) = self.known.root();
        let answer = again.to_ours(&self.twins)?.of(&self.pair.ours.link).await;
        if answer.given().is_none() {
            bail!("ours could not catch up with {}: {answer}", again.shown());
        }
        self.learn_names(ask.method, reference, &answer);
        Ok(())
    }

    /// A page of the reference's and of ours, asked for in the same way.
    pub(crate) async fn page(&mut self, verb: &str, path: &str, body: &str) -> anyhow::Result<()> {
        // What is wrong is told to who may know.
        let (_, token) = self.known.root();
        let token = token.as_deref();
        let for_us = token.map(|token| self.twins.ours(token));
        let (reference, ours) = tokio::join!(
            self.pair.reference.link.page(verb, path, token, body),
            self.pair.ours.link.page(verb, path, for_us, body),
        );
        self.trace(|| format!("{verb} {path} {body}"));
        self.count("pages, proper or not");
        self.compare(None, &format!("{verb} {path} {body}"), &reference, ours)?;
        Ok(())
    }

    /// A gRPC request that need not be one, and the first message that answers it.
    pub(crate) async fn raw(&mut self, path: &str, message: Bytes) -> anyhow::Result<()> {
        let (_, token) = self.known.root();
        let token = token.as_deref();
        let for_us = token.map(|token| self.twins.ours(token));
        let asked = format!("{path} {message:02x?}");
        let (reference, ours) = tokio::join!(
            raw(&self.pair.reference.link, path, token, message.clone()),
            raw(&self.pair.ours.link, path, for_us, message),
        );
        let answer = |answer: Result<Bytes, Answer>| {
            answer.map_or_else(
                |refused| refused,
                |bytes| Answer::Given(Value::String(format!("{bytes:02x?}"))),
            )
        };
        self.trace(|| asked.clone());
        self.count("gRPC that need be none");
        self.compare(None, &asked, &answer(reference), answer(ours))?;
        Ok(())
    }

    /// Asks a method of many messages each way for several things at once, and compares all answers.
    pub(crate) async fn ask_several(
        &mut self,
        method: &'static Method,
        messages: &[impl Message],
    ) -> anyhow::Result<()> {
        let (user, token) = self.known.speaker(&mut self.chance);
        let mut requests = [Vec::new(), Vec::new()];
        let mut shown = Vec::new();
        for message in messages {
            let ask = Ask::new(method, message);
            shown.push(ask.json.clone().unwrap_or_default());
            requests[1].push(ask.to_ours(&self.twins)?.message);
            requests[0].push(ask.message);
        }
        let mut ask = Ask { token, user, ..Ask::new(method, &()) };
        ask.json = Some(Value::Array(shown));
        self.trace(|| ask.shown());
        let for_us = ask.token.as_deref().map(|token| self.twins.ours(token));
        let [reference, ours] = requests;
        let (reference, ours) = tokio::join!(
            self.pair.reference.link.several(method.grpc, ask.token.as_deref(), reference),
            self.pair.ours.link.several(method.grpc, for_us, ours),
        );
        self.count(method.name);
        let [reference, ours] =
            [reference, ours].map(|answer| list_of(answer, method.response_json));
        self.compare(Some(&ask), &ask.shown(), &reference, ours)?;
        Ok(())
    }

    /// Tells of a request, where that was asked for.
    pub(crate) fn trace(&self, text: impl FnOnce() -> String) {
        if self.traces {
            println!("{}: {}", self.operation_count + 1, report::cut(&text()));
        }
    }

    pub(crate) fn count(&mut self, name: &'static str) {
        self.operation_count += 1;
        self.report.count(name);
    }

    /// Says whether the answers are the same, or differ as explained and ours is to catch up.
    pub(crate) fn compare(
        &mut self,
        ask: Option<&Ask>,
        asked: &str,
        reference: &Answer,
        mut ours: Answer,
    ) -> anyhow::Result<bool> {
        if let Answer::Silence(why) = reference {
            self.pair.check()?;
            bail!("the reference did not answer to {asked}: {why}");
        }
        self.report.comparison_count += 1;
        self.twins.to_reference(&mut ours);
        let (mut levelled, mut ours_levelled) = (reference.clone(), ours);
        answer::level(ask.map(|ask| ask.method), &mut levelled, &mut ours_levelled);
        if levelled == ours_levelled {
            return Ok(false);
        }
        let case =
            Case { ask, asked, reference: &levelled, ours: &ours_levelled, known: &self.known };
        if let Some((place, heals)) = explained::find(&case) {
            self.report.explain(place);
            return Ok(heals);
        }
        let texts = [levelled.to_string(), ours_levelled.to_string()];
        self.differ(asked, &texts).map(|()| false)
    }

    /// Notes a difference that nothing explains.
    ///
    /// # Errors
    ///
    /// Always, unless the run is to go on.
    pub(crate) fn differ(
        &mut self,
        asked: &str,
        [reference, ours]: &[String; 2],
    ) -> anyhow::Result<()> {
        let difference = Difference {
            seed: self.seed,
            operation: self.operation_count,
            asked: asked.to_owned(),
            reference: reference.clone(),
            ours: ours.clone(),
        };
        println!("{difference}");
        let is_last = self.report.note(self.seed);
        if !self.keeps_going || is_last {
            bail!("the two differ, and nothing explains it");
        }
        Ok(())
    }
}
