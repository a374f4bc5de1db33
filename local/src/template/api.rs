//! Reads the CORS settings of the HTTP API.

use serde::Deserialize;

use super::intrinsic::Scope;
use super::resource::{HTTP_API, Resources};
use super::shape::Text;
use super::{Cors, Error};

const API_WITHOUT_EFFECT: &[&str] = &[
    "AccessLogSettings",
    "DefaultRouteSettings",
    "Description",
    "DisableExecuteApiEndpoint",
    "Domain",
    "FailOnWarnings",
    "Name",
    "RouteSettings",
    "Tags",
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct ApiProperties {
    stage_name: Option<Text>,
    cors_configuration: Option<CorsProperties>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct CorsProperties {
    #[serde(default)]
    allow_origins: Vec<Text>,
    #[serde(default)]
    allow_methods: Vec<Text>,
    #[serde(default)]
    allow_headers: Vec<Text>,
    #[serde(default)]
    expose_headers: Vec<Text>,
    allow_credentials: Option<Text>,
    max_age: Option<Text>,
}

/// Reads the CORS settings of the only API, if it has any.
///
/// # Errors
///
/// There is not exactly one API, or one of its properties or values is not supported.
pub(super) fn cors(resources: &Resources, scope: &Scope) -> Result<Option<Cors>, Error> {
    let (logical, resource) = resources.only(HTTP_API)?;
    let at = format!("Resources.{logical}.Properties");
    let api: ApiProperties = scope.read(&at, &resource.properties, API_WITHOUT_EFFECT)?;
    if api.stage_name.is_some_and(|stage| stage.0 != "$default") {
        return Err(Error::new(at, "StageName must be $default: any other becomes a prefix of the path"));
    }
    let Some(cors) = api.cors_configuration else { return Ok(None) };
    let texts = |list: Vec<Text>| list.into_iter().map(|Text(item)| item).collect::<Vec<_>>();
    let origins = texts(cors.allow_origins);
    if origins.iter().any(|origin| origin.contains('*')) {
        return Err(Error::new(at, "AllowOrigins must be exact origins, without *"));
    }
    let max_age = cors.max_age.map(|Text(seconds)| seconds.parse()).transpose();
    Ok(Some(Cors {
        origins,
        methods: texts(cors.allow_methods),
        headers: texts(cors.allow_headers),
        exposed: texts(cors.expose_headers),
        credentials: cors.allow_credentials.is_some_and(|allowed| allowed.0 == "true"),
        max_age: max_age.map_err(|_| Error::new(at, "MaxAge must be whole seconds"))?,
    }))
}
