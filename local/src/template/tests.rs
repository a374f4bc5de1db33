use super::*;

const SMALL: &str = r#"
AWSTemplateFormatVersion: "2010-09-09"
Transform: AWS::Serverless-2016-10-31
Parameters:
  Issuer: { Type: String, Default: freshkey }
  Minutes: { Type: Number, Default: 60 }
  AllowedOrigins: { Type: CommaDelimitedList, Default: "https://a.example, https://b.example" }
  SecretArn: { Type: String, Default: "" }
  Needed: { Type: String }
  Needless: { Type: String, Default: x }
Conditions:
  MakesSecret: !Equals [!Ref SecretArn, ""]
  HasSecret: !Not [!Equals [!Ref SecretArn, ""]]
Globals:
  Function:
    Runtime: provided.al2023
    Environment:
      Variables:
        TABLE_NAME: !Ref Table
        JWT_ISSUER: !Ref Issuer
        MINUTES: !Ref Minutes
        ALLOWED_ORIGINS: !Join [",", !Ref AllowedOrigins]
        JWT_SECRET_ARN: !If [MakesSecret, !Ref Secret, !Ref SecretArn]
        GONE: !If [HasSecret, here, !Ref AWS::NoValue]
Resources:
  Api:
    Type: AWS::Serverless::HttpApi
    Properties:
      DefaultRouteSettings: { ThrottlingBurstLimit: 10 }
      CorsConfiguration:
        AllowOrigins: !Ref AllowedOrigins
        AllowMethods: [GET, POST]
        AllowHeaders: [content-type]
        ExposeHeaders: [retry-after]
        AllowCredentials: !Equals [!Ref Issuer, freshkey]
        MaxAge: 600
  LoginFunction:
    Type: AWS::Serverless::Function
    Metadata: { BuildMethod: rust-cargolambda }
    Properties:
      CodeUri: functions/login
      FunctionName: !Sub "${AWS::StackName}-login"
      Policies:
        - Statement: [{ Effect: Allow, Action: dynamodb:GetItem, Resource: !GetAtt Table.Arn }]
      Environment:
        Variables:
          OWN: !Sub "${Issuer}-${Table}-${Table.Arn}"
          ARN: !GetAtt Table.Arn
      Events:
        Login:
          Type: HttpApi
          Properties: { ApiId: !Ref Api, Method: post, Path: "/api/v1/sessions/{session_id}" }
  WorkerFunction:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: functions/worker
      Events:
        Often:
          Type: Schedule
          Properties: { Schedule: rate(2 minutes) }
  WorkerStream:
    Type: AWS::Lambda::EventSourceMapping
    Properties:
      FunctionName: !Ref WorkerFunction
      EventSourceArn: !GetAtt Table.StreamArn
      FilterCriteria:
        Filters:
          - Pattern: '{"eventName":["INSERT"],"dynamodb":{"Keys":{"pk":{"S":[{"prefix":"WORK#"}]}}}}'
      StartingPosition: LATEST
      BatchSize: 100
      MaximumRetryAttempts: 0
  Absent:
    Type: AWS::Serverless::Function
    Condition: HasSecret
    Properties: { CodeUri: functions/absent }
  Secret:
    Type: AWS::SecretsManager::Secret
    Condition: MakesSecret
  Table:
    Type: AWS::DynamoDB::Table
    DeletionPolicy: Retain
    Properties:
      BillingMode: PAY_PER_REQUEST
      AttributeDefinitions:
        - { AttributeName: pk, AttributeType: S }
        - { AttributeName: sk, AttributeType: S }
      KeySchema:
        - { AttributeName: pk, KeyType: HASH }
        - { AttributeName: sk, KeyType: RANGE }
      TimeToLiveSpecification: { AttributeName: expires_at, Enabled: true }
      StreamSpecification: !If [MakesSecret, { StreamViewType: KEYS_ONLY }, !Ref AWS::NoValue]
Outputs:
  Url: { Value: !Cidr [a, b, c] }
"#;

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect()
}

fn with(replaced: &str, by: &str) -> Result<Template, Error> {
    assert!(SMALL.contains(replaced));
    Template::parse(&SMALL.replacen(replaced, by, 1), &[])
}

fn problem(replaced: &str, by: &str) -> String {
    with(replaced, by).unwrap_err().to_string()
}

#[test]
fn a_function_is_named_after_its_code_and_has_its_routes() {
    let template = Template::parse(SMALL, &[]).unwrap();
    let [login, worker] = template.functions.as_slice() else { panic!("{template:?}") };
    assert_eq!((login.name.as_str(), login.logical.as_str()), ("login", "LoginFunction"));
    let path = "/api/v1/sessions/{session_id}".into();
    assert_eq!(login.routes, [Route { method: Method::POST, path }]);
    assert_eq!((worker.name.as_str(), worker.routes.as_slice()), ("worker", [].as_slice()));
}

#[test]
fn a_function_has_its_schedule_and_what_the_stream_wakes_it_for() {
    let template = Template::parse(SMALL, &[]).unwrap();
    let [login, worker] = template.functions.as_slice() else { panic!("{template:?}") };
    assert_eq!((login.schedule, login.wakes_on.as_deref()), (None, None));
    assert_eq!((worker.schedule, worker.wakes_on.as_deref()), (Some(Duration::from_secs(120)), Some("WORK#")));
    let one = with("rate(2 minutes)", "rate(1 minute)").unwrap();
    assert_eq!(one.functions[1].schedule, Some(Duration::from_secs(60)));
}

#[test]
fn a_functions_variables_are_the_global_ones_and_its_own() {
    let template = Template::parse(SMALL, &[]).unwrap();
    let variables = template.functions[0].variables.clone().into_iter().collect::<Vec<_>>();
    let expected = [
        ("ALLOWED_ORIGINS", "https://a.example,https://b.example"),
        ("ARN", "arn:aws:local:local:000000000000:Table"),
        ("JWT_ISSUER", "freshkey"),
        ("JWT_SECRET_ARN", "arn:aws:local:local:000000000000:Secret"),
        ("MINUTES", "60"),
        ("OWN", "freshkey-Table-arn:aws:local:local:000000000000:Table"),
        ("TABLE_NAME", "Table"),
    ];
    assert_eq!(variables, pairs(&expected));
}

#[test]
fn the_table_has_its_key_and_its_ttl() {
    let table = Template::parse(SMALL, &[]).unwrap().table;
    assert_eq!(table.name, "Table");
    assert_eq!(table.keys, pairs(&[("pk", "HASH"), ("sk", "RANGE")]));
    assert_eq!(table.attributes, pairs(&[("pk", "S"), ("sk", "S")]));
    assert_eq!(table.ttl.as_deref(), Some("expires_at"));
    assert!(table.has_stream);
}

#[test]
fn cors_settings_are_read_with_their_parameters() {
    let cors = Template::parse(SMALL, &[]).unwrap().cors.unwrap();
    let expected = Cors {
        origins: vec!["https://a.example".into(), "https://b.example".into()],
        methods: vec!["GET".into(), "POST".into()],
        headers: vec!["content-type".into()],
        exposed: vec!["retry-after".into()],
        credentials: true,
        max_age: Some(600),
    };
    assert_eq!(cors, expected);
}

#[test]
fn an_empty_list_parameter_is_an_empty_list() {
    let template = with("\"https://a.example, https://b.example\"", "\"\"").unwrap();
    assert_eq!(template.cors.unwrap().origins, Vec::<String>::new());
    assert_eq!(template.functions[0].variables["ALLOWED_ORIGINS"], "");
}

#[test]
fn a_condition_decides_which_resources_exist() {
    let without_stream = SMALL.replace("!If [MakesSecret, { StreamViewType", "!If [HasSecret, { StreamViewType");
    assert!(Template::parse(&without_stream, &[]).unwrap_err().to_string().contains("EventSourceArn"));
    let without_stream =
        without_stream.replace("EventSourceMapping\n", "EventSourceMapping\n    Condition: HasSecret\n");
    assert!(!Template::parse(&without_stream, &[]).unwrap().table.has_stream);

    let template = Template::parse(&without_stream, &[("SecretArn", "arn:of:mine")]).unwrap();
    assert_eq!(template.functions.len(), 3);
    assert!(template.table.has_stream);
    assert_eq!(template.functions[0].variables["JWT_SECRET_ARN"], "arn:of:mine");
    assert_eq!(template.functions[0].variables["GONE"], "here");
}

#[test]
fn conditions_combine_and_a_text_becomes_a_list() {
    for (value, expected) in [
        ("!If [Both, yes, no]", "no"),
        ("!If [Either, yes, no]", "yes"),
        ("!Sub ['${A}${Issuer}', { A: !Ref Needless }]", "xfreshkey"),
        ("!Join ['+', !Split [',', 'a,b,c']]", "a+b+c"),
        (
            "!Sub '${AWS::Partition} ${LoginFunctionRole} ${LoginFunction.Version}'",
            "aws LoginFunctionRole LoginFunction.Version",
        ),
    ] {
        let both = "!And [!Condition MakesSecret, !Condition HasSecret]";
        let conditions = format!("Conditions:\n  Both: {both}\n  Either: {}\n", both.replace("!And", "!Or"));
        let text = SMALL.replacen("Conditions:\n", &conditions, 1).replacen("!Ref Minutes", value, 1);
        assert_eq!(Template::parse(&text, &[]).unwrap().functions[0].variables["MINUTES"], expected, "{value}");
    }
}

#[test]
fn a_given_parameter_overrides_its_default() {
    let given = [("AllowedOrigins", "https://c.example"), ("Needed", "x")];
    let template = Template::parse(SMALL, &given).unwrap();
    assert_eq!(template.cors.unwrap().origins, ["https://c.example"]);
    let unknown = Template::parse(SMALL, &[("Nothing", "x")]).unwrap_err();
    assert_eq!(unknown.to_string(), "Parameters: there is no parameter Nothing");
}

#[test]
fn the_template_of_this_project_is_read() {
    let path = Path::new(crate::TEMPLATE);
    let template = Template::read(path, &[("AllowedOrigins", "https://c.example")]).unwrap();
    let names: Vec<_> = template.functions.iter().map(|function| &function.name).collect();
    assert!(names.iter().any(|name| *name == "refresh"), "{names:?}");
    assert_eq!(template.functions[0].variables["TABLE_NAME"], template.table.name);
    assert_eq!(template.table.ttl.as_deref(), Some("expires_at"));
    assert_eq!(template.cors.unwrap().origins, ["https://c.example"]);
    let without = Template::read(path, &[]).unwrap();
    assert_eq!((without.cors, without.table.has_stream), (None, false));
    assert!(without.functions.iter().all(|function| !["recovery", "email", "mailer"].contains(&&*function.name)));
    let with_mail = Template::read(path, &[("MailFrom", "no-reply@example.com")]).unwrap();
    let mailer = with_mail.functions.iter().find(|function| function.name == "mailer").unwrap();
    assert!(with_mail.table.has_stream);
    assert_eq!((mailer.schedule, mailer.wakes_on.as_deref()), (Some(Duration::from_secs(60)), Some("MAIL#")));
    for (transport, credentials) in [("body", false), ("cookie", true), ("both", true)] {
        let given = [("AllowedOrigins", "https://c.example"), ("RefreshTokenTransport", transport)];
        let cors = Template::read(path, &given).unwrap().cors.unwrap();
        assert_eq!(cors.credentials, credentials, "{transport}");
    }
}

#[test]
fn what_would_behave_differently_in_aws_is_an_error() {
    let cases = [
        ("BillingMode: PAY", "ImportSourceSpecification: {}\n      BillingMode: PAY", "ImportSourceSpecification"),
        ("StreamViewType: KEYS_ONLY", "ResourcePolicy: {}", "ResourcePolicy"),
        ("rate(2 minutes)", "rate(2 hours)", "rate(2 hours)"),
        ("rate(2 minutes)", "rate(0 minutes)", "rate(0 minutes)"),
        ("rate(2 minutes)", "cron(0 10 * * ? *)", "cron"),
        ("{ Schedule: rate(2 minutes) }", "{ Schedule: rate(2 minutes), Enabled: false }", "Enabled"),
        ("Type: Schedule", "Type: DynamoDB", "DynamoDB"),
        ("!GetAtt Table.StreamArn", "arn:of:another", "EventSourceArn"),
        ("FunctionName: !Ref WorkerFunction", "FunctionName: another", "FunctionName"),
        ("[\"INSERT\"]", "[\"MODIFY\"]", "INSERT"),
        ("{\"pk\":{\"S\"", "{\"sk\":{\"S\"", "partition key"),
        ("\"prefix\":\"WORK#\"", "\"suffix\":\"#WORK\"", "prefix"),
        ("          - Pattern: '{\"", "          - Pattern: '{}'\n          - Pattern: '{\"", "FilterCriteria"),
        ("StartingPosition: LATEST", "StartingPosition: TRIM_HORIZON", "LATEST"),
        ("MaximumRetryAttempts: 0", "MaximumRetryAttempts: 3", "MaximumRetryAttempts"),
        ("      BatchSize: 100", "      Enabled: false", "Enabled"),
        ("DefaultRouteSettings", "Auth", "Auth"),
        ("Runtime: provided", "Layers: []\n    Runtime: provided", "Layers"),
        ("Type: AWS::SecretsManager::Secret", "Type: AWS::SQS::Queue", "AWS::SQS::Queue"),
        ("Type: HttpApi", "Type: Schedule", "Schedule"),
        ("Method: post", "Method: any", "ANY"),
        ("{session_id}", "{rest+}", "{rest+}"),
        ("Method: post", "PayloadFormatVersion: '1.0', Method: post", "2.0"),
        ("{session_id}", "{*rest}", "{*rest}"),
        ("{session_id}", "{}", "{}"),
        ("{session_id}", "x{id}", "x{id}"),
        ("BillingMode: PAY", "TableName: mine\n      BillingMode: PAY", "TableName"),
        ("!Ref Issuer", "!ImportValue there", "!ImportValue"),
        ("!Ref Issuer", "{ 'Fn::Sub': 'x-${Issuer}' }", "Fn::Sub"),
        ("!Ref Issuer", "{ Ref: Issuer }", "Ref"),
        ("!Ref Issuer", "!Sub '${Issuer'", "!Sub"),
        ("!Ref Issuer", "!Ref Needed", "Needed"),
        ("!Ref Issuer", "!Ref Nobody", "Nobody"),
        ("!Ref Issuer", "!Ref Absent", "only with HasSecret"),
        ("!Ref Issuer", "!GetAtt Absent.Arn", "only with HasSecret"),
        ("!Ref Issuer", "!Sub '${AbsentRole}'", "only with HasSecret"),
        ("!Ref Issuer", "!If [NoCondition, a, b]", "NoCondition"),
        ("AllowMethods: [GET", "AllowWhatever: [GET", "AllowWhatever"),
        ("https://a.example", "https://*.example", "AllowOrigins"),
        ("MaxAge: 600", "MaxAge: soon", "MaxAge"),
        ("ApiId: !Ref Api", "ApiId: !Ref Table", "ApiId"),
        ("Conditions:", "Mappings: { A: 1 }\nConditions:", "Mappings"),
        ("Outputs:", "Hooks: {}\nOutputs:", "Hooks"),
        ("DefaultRouteSettings:", "StageName: v1\n      DefaultRouteSettings:", "StageName"),
    ];
    for (replaced, by, named) in cases {
        let problem = problem(replaced, by);
        assert!(problem.contains(named), "{by}: {problem}");
    }
}

#[test]
fn an_error_says_where_it_is() {
    let problem = problem("MINUTES: !Ref Minutes", "MINUTES: !Ref Nobody");
    assert!(problem.starts_with("Globals.Function.Environment: "), "{problem}");
}
