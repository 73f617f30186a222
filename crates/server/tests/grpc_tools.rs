//! What tools and load balancers ask of every gRPC server: what it serves, and whether it does.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use common::Server;
use futures_util::stream;
use quorate_etcd_api::health::health_check_response::ServingStatus;
use quorate_etcd_api::health::health_client::HealthClient;
use quorate_etcd_api::health::{HealthCheckRequest, HealthCheckResponse};
use quorate_etcd_api::reflection::server_reflection_client::ServerReflectionClient;
use quorate_etcd_api::reflection::server_reflection_request::MessageRequest;
use quorate_etcd_api::reflection::server_reflection_response::MessageResponse;
use quorate_etcd_api::reflection::{ExtensionRequest, ServerReflectionRequest};
use quorate_etcd_api::reflection_v1alpha as alpha;
use tonic::{Code, Streaming};

const SERVICES: [&str; 12] = [
    "etcdserverpb.Auth",
    "etcdserverpb.Cluster",
    "etcdserverpb.KV",
    "etcdserverpb.Lease",
    "etcdserverpb.Maintenance",
    "etcdserverpb.Watch",
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
    "quorate.v1.Diagnostics",
    "v3electionpb.Election",
    "v3lockpb.Lock",
];

fn question(request: Option<MessageRequest>) -> ServerReflectionRequest {
    ServerReflectionRequest { host: "test".to_owned(), message_request: request }
}

fn symbol(name: &str) -> MessageRequest {
    MessageRequest::FileContainingSymbol(name.to_owned())
}

/// Asks everything on one stream; the answers.
async fn asked(server: &Server, questions: Vec<Option<MessageRequest>>) -> Vec<MessageResponse> {
    let mut client = ServerReflectionClient::new(server.channel().await);
    let requests: Vec<_> = questions.into_iter().map(question).collect();
    let mut sent = requests.clone().into_iter();
    let stream = client.server_reflection_info(stream::iter(requests)).await.unwrap();
    let mut stream = stream.into_inner();
    let mut answers = Vec::new();
    while let Some(answer) = stream.message().await.unwrap() {
        assert_eq!(answer.original_request, sent.next(), "answers come in order");
        assert_eq!(answer.valid_host, "test");
        answers.push(answer.message_response.unwrap());
    }
    assert_eq!(sent.next(), None, "every request was answered");
    answers
}

#[tokio::test]
async fn the_services_are_listed_under_both_names_of_reflection() {
    let server = Server::start().await;
    let list = vec![Some(MessageRequest::ListServices(String::new()))];
    let answers = asked(&server, list).await;
    let [MessageResponse::ListServicesResponse(listed)] = &answers[..] else {
        panic!("expected a list, found {answers:?}")
    };
    let names: Vec<&str> = listed.service.iter().map(|service| service.name.as_str()).collect();
    assert_eq!(names, SERVICES);

    let mut client =
        alpha::server_reflection_client::ServerReflectionClient::new(server.channel().await);
    let list = alpha::server_reflection_request::MessageRequest::ListServices("*".into());
    let request =
        alpha::ServerReflectionRequest { message_request: Some(list), ..Default::default() };
    let stream = client.server_reflection_info(stream::iter([request])).await.unwrap();
    let answer = stream.into_inner().message().await.unwrap().unwrap();
    let told = format!("{answer:?}");
    assert!(SERVICES.iter().all(|service| told.contains(service)), "{told}");
    server.stop().await;
}

#[tokio::test]
async fn a_file_is_found_by_its_name_and_by_what_is_in_it() {
    let server = Server::start().await;
    let by_name = Some(MessageRequest::FileByFilename("etcdserverpb/kv.proto".to_owned()));
    let questions = vec![
        by_name,
        Some(symbol("etcdserverpb.KV")),
        Some(symbol("etcdserverpb.KV.Put")),
        Some(symbol("etcdserverpb.RangeRequest.SortOrder")),
        Some(symbol("etcdserverpb.RangeRequest.key")),
    ];
    let answers = asked(&server, questions).await;
    for answer in &answers {
        assert_eq!(answer, &answers[0]);
    }
    let MessageResponse::FileDescriptorResponse(files) = &answers[0] else {
        panic!("expected files, found {:?}", answers[0])
    };
    // The file that was asked for comes first: its descriptor begins with its name.
    let first = &files.file_descriptor_proto[0];
    assert!(first.starts_with(b"\x0a\x15etcdserverpb/kv.proto"), "{first:?}");
    assert_eq!(files.file_descriptor_proto.len(), 3, "it needs two others");
    server.stop().await;
}

#[tokio::test]
async fn what_is_not_there_is_an_answer_and_the_stream_goes_on() {
    let server = Server::start().await;
    let extension =
        ExtensionRequest { containing_type: "mvccpb.Event".to_owned(), extension_number: 7 };
    let extensions_of =
        |name: &str| Some(MessageRequest::AllExtensionNumbersOfType(name.to_owned()));
    let questions = vec![
        Some(MessageRequest::FileByFilename("nonsense.proto".to_owned())),
        Some(symbol("etcdserverpb.Nonsense")),
        Some(symbol("")),
        extensions_of("etcdserverpb.Nonsense"),
        Some(MessageRequest::FileContainingExtension(extension)),
        None,
        extensions_of("mvccpb.Event"),
    ];
    let answers = asked(&server, questions).await;
    let codes: Vec<i32> = answers
        .iter()
        .map(|answer| match answer {
            MessageResponse::ErrorResponse(error) => error.error_code,
            MessageResponse::AllExtensionNumbersResponse(none) => {
                assert_eq!(
                    (none.base_type_name.as_str(), none.extension_number.len()),
                    ("mvccpb.Event", 0)
                );
                0
            }
            MessageResponse::FileDescriptorResponse(_)
            | MessageResponse::ListServicesResponse(_) => panic!("{answer:?}"),
        })
        .collect();
    assert_eq!(codes, [5, 5, 5, 5, 5, 3, 0]);
    server.stop().await;
}

fn about(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.to_owned() }
}

async fn next(stream: &mut Streaming<HealthCheckResponse>) -> ServingStatus {
    stream.message().await.unwrap().expect("the stream goes on").status()
}

#[tokio::test]
async fn the_server_and_each_of_its_services_are_served_and_nothing_else_is() {
    let server = Server::start().await;
    let mut health = HealthClient::new(server.channel().await);
    for service in SERVICES.into_iter().chain([""]) {
        let answer = health.check(about(service)).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{service}");
    }
    for service in ["x", "etcdserverpb", "etcdserverpb.KV/Put", "etcdserverpb.kv"] {
        let error = health.check(about(service)).await.unwrap_err();
        assert_eq!((error.code(), error.message()), (Code::NotFound, "unknown service"));
    }
    server.stop().await;
}

#[tokio::test]
async fn who_watches_a_service_hears_how_it_is_and_when_that_changes() {
    let server = Server::start().await;
    let mut health = HealthClient::new(server.channel().await);
    let mut whole = health.watch(about("")).await.unwrap().into_inner();
    let mut one = health.watch(about("etcdserverpb.KV")).await.unwrap().into_inner();
    let mut none = health.watch(about("x")).await.unwrap().into_inner();
    assert_eq!(next(&mut whole).await, ServingStatus::Serving);
    assert_eq!(next(&mut one).await, ServingStatus::Serving);
    assert_eq!(next(&mut none).await, ServingStatus::ServiceUnknown);
    server.node.clone().stop().await;
    assert_eq!(next(&mut whole).await, ServingStatus::NotServing);
    assert_eq!(next(&mut one).await, ServingStatus::NotServing);
    let answer = health.check(about("")).await.unwrap().into_inner();
    assert_eq!(answer.status(), ServingStatus::NotServing);
    server.stop().await;
    for mut stream in [whole, one, none] {
        let error = stream.message().await.unwrap_err();
        assert_eq!(error.code(), Code::Unavailable, "{error}");
    }
}

#[tokio::test]
async fn who_watches_a_server_that_stops_hears_that_first() {
    let server = Server::start().await;
    let mut health = HealthClient::new(server.channel().await);
    let mut whole = health.watch(about("")).await.unwrap().into_inner();
    assert_eq!(next(&mut whole).await, ServingStatus::Serving);
    let end = server.begin_stop();
    assert_eq!(next(&mut whole).await, ServingStatus::NotServing);
    let error = whole.message().await.unwrap_err();
    assert_eq!((error.code(), error.message()), (Code::Unavailable, "etcdserver: server stopped"));
    end.await.unwrap().unwrap();
}
