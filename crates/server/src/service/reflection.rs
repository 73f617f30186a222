//! What this server serves, told to tools that ask for it: its services, and the files that describe
//! them. Must not know what a method does, or how requests and answers travel.

use super::Service;
use crate::errors::Code;
use crate::method::Method;
use bytes::Bytes;
use quorate_etcd_api::descriptors::{FILES, File};
use quorate_etcd_api::reflection::server_reflection_request::MessageRequest;
use quorate_etcd_api::reflection::server_reflection_response::MessageResponse;
use quorate_etcd_api::reflection::{
    ErrorResponse, ExtensionNumberResponse, FileDescriptorResponse, ListServiceResponse,
    ServerReflectionRequest, ServerReflectionResponse, ServiceResponse,
};

impl Service {
    /// The answer to a request; what is not there is an answer, too, and others may follow.
    pub(crate) fn reflect(request: ServerReflectionRequest) -> ServerReflectionResponse {
        let answer = match &request.message_request {
            Some(MessageRequest::ListServices(_)) => Ok(services()),
            Some(MessageRequest::FileByFilename(name)) => {
                let file = FILES.iter().find(|file| file.name == name);
                file.map(with_imports).ok_or_else(|| not_found("file", name))
            }
            Some(MessageRequest::FileContainingSymbol(name)) => {
                file_of(name).map(with_imports).ok_or_else(|| not_found("symbol", name))
            }
            Some(MessageRequest::AllExtensionNumbersOfType(name)) => match file_of(name) {
                Some(_) => Ok(no_extensions(name)),
                None => Err(not_found("type", name)),
            },
            Some(MessageRequest::FileContainingExtension(extension)) => {
                let (number, name) = (extension.extension_number, &extension.containing_type);
                Err(not_found("extension", &format!("{number} of {name}")))
            }
            None => Err(MessageResponse::ErrorResponse(ErrorResponse {
                error_code: Code::InvalidArgument.number().into(),
                error_message: "quorate: expected one of the questions, found none".to_owned(),
            })),
        };
        ServerReflectionResponse {
            valid_host: request.host.clone(),
            original_request: Some(request),
            message_response: Some(answer.unwrap_or_else(|error| error)),
        }
    }
}

/// The names of the services that there are, each once.
pub(super) fn service_names() -> Vec<&'static str> {
    let mut names = Method::ALL.map(Method::service).to_vec();
    names.sort_unstable();
    names.dedup();
    names
}

fn services() -> MessageResponse {
    let named = |name: &'static str| ServiceResponse { name: name.to_owned() };
    let service = service_names().into_iter().map(named).collect();
    MessageResponse::ListServicesResponse(ListServiceResponse { service })
}

fn file_of(symbol: &str) -> Option<&'static File> {
    FILES.iter().find(|file| file.symbols.binary_search(&symbol).is_ok())
}

/// A file, and everything that it needs: who asked can do something with it at once.
fn with_imports(file: &'static File) -> MessageResponse {
    let mut files = vec![file];
    let mut place = 0;
    while let Some(file) = files.get(place).copied() {
        for import in FILES.iter().filter(|other| file.imports.contains(&other.name)) {
            if !files.iter().any(|known| known.name == import.name) {
                files.push(import);
            }
        }
        place += 1;
    }
    let descriptors = files.iter().map(|file| Bytes::from_static(file.descriptor));
    MessageResponse::FileDescriptorResponse(FileDescriptorResponse {
        file_descriptor_proto: descriptors.collect(),
    })
}

/// Our files extend nothing.
fn no_extensions(name: &str) -> MessageResponse {
    MessageResponse::AllExtensionNumbersResponse(ExtensionNumberResponse {
        base_type_name: name.to_owned(),
        extension_number: Vec::new(),
    })
}

fn not_found(what: &str, name: &str) -> MessageResponse {
    MessageResponse::ErrorResponse(ErrorResponse {
        error_code: Code::NotFound.number().into(),
        error_message: format!("quorate: there is no {what} {name}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_that_is_known_is_described() {
        for method in Method::ALL {
            let symbol = format!("{}.{}", method.service(), method.name());
            assert!(file_of(&symbol).is_some(), "{symbol}");
            assert!(file_of(method.service()).is_some(), "{symbol}");
        }
    }

    #[test]
    fn every_service_that_is_described_is_known() {
        let names = service_names();
        for file in FILES {
            for symbol in file.symbols {
                if let Some((service, name)) = symbol.rsplit_once('.')
                    && names.contains(&service)
                {
                    let path = format!("/{service}/{name}");
                    assert!(Method::from_grpc_path(&path).is_some(), "{symbol}");
                }
            }
        }
    }

    #[test]
    fn a_file_comes_with_what_it_imports_and_nothing_twice() {
        let count = |name| {
            let file = FILES.iter().find(|file| file.name == name).unwrap();
            let answer = with_imports(file);
            let MessageResponse::FileDescriptorResponse(files) = answer else {
                panic!("{answer:?}")
            };
            files.file_descriptor_proto
        };
        assert_eq!(count("mvccpb.proto").len(), 1);
        let files = count("etcdserverpb/kv.proto");
        assert_eq!(files.len(), 3, "itself, the header, and the keys");
    }
}
