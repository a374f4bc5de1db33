// POST /api/v1/auth/refresh in Go: rotates a refresh token on the table that Freshkey uses.
package main

import (
	"bytes"
	"context"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"strconv"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/golang-jwt/jwt/v5"
)

const (
	refreshAudience = "urn:freshkey:refresh"
	refreshLabel    = "freshkey refresh token v1"
	accessSeconds   = 60 * 60
	idleSeconds     = 30 * 24 * 60 * 60
	condition       = "secret_hash = :secret_hash AND generation <= :generation AND expires_at > :now" +
		" AND attribute_not_exists(revoked_at)"
	update = "SET generation = :next, attempt = :attempt, rotated_at = :now_millis, last_used_at = :now," +
		" expires_at = :expires_at, ip = :ip, user_agent = :user_agent"
)

var (
	table                  = os.Getenv("TABLE_NAME")
	issuer                 = os.Getenv("JWT_ISSUER")
	audience               = os.Getenv("JWT_AUDIENCE")
	errInvalidRefreshToken = errors.New("the refresh token is forged, expired, spent or revoked")
)

type item = map[string]types.AttributeValue

// refreshClaims are what a refresh token says.
type refreshClaims struct {
	Iss      string `json:"iss"`
	Aud      string `json:"aud"`
	Sub      string `json:"sub"`
	Sid      string `json:"sid"`
	Gen      int64  `json:"gen"`
	Sec      string `json:"sec"`
	AuthTime int64  `json:"auth_time"`
	Abs      int64  `json:"abs"`
	Iat      int64  `json:"iat"`
	Exp      int64  `json:"exp"`
}

func (c refreshClaims) GetIssuer() (string, error)  { return c.Iss, nil }
func (c refreshClaims) GetSubject() (string, error) { return c.Sub, nil }
func (c refreshClaims) GetAudience() (jwt.ClaimStrings, error) {
	return jwt.ClaimStrings{c.Aud}, nil
}
func (c refreshClaims) GetIssuedAt() (*jwt.NumericDate, error)  { return nil, nil }
func (c refreshClaims) GetNotBefore() (*jwt.NumericDate, error) { return nil, nil }
func (c refreshClaims) GetExpirationTime() (*jwt.NumericDate, error) {
	return jwt.NewNumericDate(time.Unix(min(c.Exp, c.Abs), 0)), nil
}

type function struct {
	dynamodb    *dynamodb.Client
	parser      *jwt.Parser
	signing     string
	refresh     string
	accessKeys  map[string][]byte
	refreshKeys map[string][]byte
}

func newFunction(ctx context.Context) (*function, error) {
	sdk, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return nil, err
	}
	secret, err := secretsmanager.NewFromConfig(sdk).GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{
		SecretId: aws.String(os.Getenv("JWT_SECRET_ARN")),
	})
	if err != nil {
		return nil, err
	}
	var members map[string]string
	if err := json.Unmarshal([]byte(*secret.SecretString), &members); err != nil {
		return nil, err
	}
	f := &function{
		dynamodb: dynamodb.NewFromConfig(sdk),
		parser: jwt.NewParser(
			jwt.WithValidMethods([]string{"HS256"}),
			jwt.WithIssuer(issuer),
			jwt.WithAudience(refreshAudience),
			jwt.WithExpirationRequired(),
		),
		signing:     members["signing"],
		refresh:     members["refresh"],
		accessKeys:  map[string][]byte{},
		refreshKeys: map[string][]byte{},
	}
	delete(members, "signing")
	delete(members, "refresh")
	for kid, text := range members {
		f.accessKeys[kid] = []byte(text)
		if f.refreshKeys[kid], err = hkdf.Key(sha256.New, []byte(text), nil, refreshLabel, sha256.Size); err != nil {
			return nil, err
		}
	}
	return f, nil
}

func (f *function) handle(ctx context.Context, event events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse, error) {
	tokens, err := f.rotate(ctx, event)
	if errors.Is(err, errInvalidRefreshToken) {
		return answer(401, "application/problem+json", map[string]any{
			"title": "Unauthorized", "status": 401, "error": "invalid_refresh_token",
		})
	}
	if err != nil {
		return events.APIGatewayV2HTTPResponse{}, err
	}
	return answer(200, "application/json", tokens)
}

func (f *function) rotate(ctx context.Context, event events.APIGatewayV2HTTPRequest) (map[string]any, error) {
	now := time.Now()
	var body struct {
		RefreshToken string `json:"refresh_token"`
	}
	if err := json.Unmarshal([]byte(event.Body), &body); err != nil {
		return nil, err
	}
	token, err := f.verified(body.RefreshToken)
	if err != nil {
		return nil, err
	}

	type result struct {
		user item
		err  error
	}
	reading := make(chan result, 1)
	go func() {
		user, err := f.read(ctx, token)
		reading <- result{user, err}
	}()
	session, err := f.write(ctx, token, event, now)
	if err != nil {
		return nil, err
	}
	read := <-reading
	if read.err != nil {
		return nil, read.err
	}
	user := read.user
	if user == nil || !user["is_active"].(*types.AttributeValueMemberBOOL).Value || number(session["epoch"]) < number(user["epoch"]) {
		return nil, errInvalidRefreshToken
	}

	successor := *token
	successor.Gen = number(session["generation"])
	successor.Iat = number(session["rotated_at"]) / 1000
	successor.Exp = number(session["expires_at"])
	refreshToken, err := sign("rt+jwt", f.refresh, f.refreshKeys[f.refresh], successor)
	if err != nil {
		return nil, err
	}
	var roles []string
	for _, role := range user["roles"].(*types.AttributeValueMemberL).Value {
		roles = append(roles, role.(*types.AttributeValueMemberS).Value)
	}
	jti := make([]byte, 16)
	rand.Read(jti)
	accessToken, err := sign("at+jwt", f.signing, f.accessKeys[f.signing], jwt.MapClaims{
		"iss":   issuer,
		"aud":   audience,
		"sub":   token.Sub,
		"sid":   token.Sid,
		"iat":   now.Unix(),
		"nbf":   now.Unix(),
		"exp":   now.Unix() + accessSeconds,
		"jti":   base64.RawURLEncoding.EncodeToString(jti),
		"roles": roles,
	})
	if err != nil {
		return nil, err
	}
	return map[string]any{
		"access_token":       accessToken,
		"refresh_token":      refreshToken,
		"token_type":         "Bearer",
		"expires_in":         accessSeconds,
		"refresh_expires_in": successor.Exp - now.Unix(),
	}, nil
}

// verified returns what an authentic refresh token says.
func (f *function) verified(text string) (*refreshClaims, error) {
	claims := &refreshClaims{}
	_, err := f.parser.ParseWithClaims(text, claims, func(token *jwt.Token) (any, error) {
		kid, _ := token.Header["kid"].(string)
		key, known := f.refreshKeys[kid]
		if token.Header["typ"] != "rt+jwt" || !known {
			return nil, errInvalidRefreshToken
		}
		return key, nil
	})
	if err != nil || claims.Gen < 1 {
		return nil, errInvalidRefreshToken
	}
	return claims, nil
}

// read returns the user, or nil.
func (f *function) read(ctx context.Context, token *refreshClaims) (item, error) {
	out, err := f.dynamodb.GetItem(ctx, &dynamodb.GetItemInput{
		TableName:      &table,
		Key:            item{"pk": text("USER#" + token.Sub), "sk": text("PROFILE")},
		ConsistentRead: aws.Bool(true),
	})
	if err != nil {
		return nil, err
	}
	return out.Item, nil
}

// write returns the session as this attempt left it.
func (f *function) write(ctx context.Context, token *refreshClaims, event events.APIGatewayV2HTTPRequest, now time.Time) (item, error) {
	secret, err := base64.RawURLEncoding.DecodeString(token.Sec)
	if err != nil {
		return nil, errInvalidRefreshToken
	}
	secretHash := sha256.Sum256(secret)
	identity := "idempotency-key:" + event.Headers["idempotency-key"]
	if event.Headers["idempotency-key"] == "" {
		invocation, _ := lambdacontext.FromContext(ctx)
		identity = "request:" + invocation.AwsRequestID
	}
	attempt := sha256.Sum256([]byte(identity))
	client := event.RequestContext.HTTP
	out, err := f.dynamodb.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName:           &table,
		Key:                 item{"pk": text("USER#" + token.Sub), "sk": text("SESSION#" + token.Sid)},
		ConditionExpression: aws.String(condition),
		UpdateExpression:    aws.String(update),
		ExpressionAttributeValues: item{
			":secret_hash": &types.AttributeValueMemberB{Value: secretHash[:]},
			":generation":  integer(token.Gen),
			":next":        integer(token.Gen + 1),
			":attempt":     &types.AttributeValueMemberB{Value: attempt[:]},
			":now":         integer(now.Unix()),
			":now_millis":  integer(now.UnixMilli()),
			":expires_at":  integer(min(now.Unix()+idleSeconds, token.Abs)),
			":ip":          text(client.SourceIP),
			":user_agent":  text(client.UserAgent[:min(len(client.UserAgent), 256)]),
		},
		ReturnValues:                        types.ReturnValueAllNew,
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	})
	var refused *types.ConditionalCheckFailedException
	if errors.As(err, &refused) {
		// The attempt whose answer was lost gets it again.
		session := refused.Item
		isRepeated := session != nil &&
			bytes.Equal(blob(session["secret_hash"]), secretHash[:]) &&
			number(session["expires_at"]) > now.Unix() &&
			session["revoked_at"] == nil &&
			number(session["generation"]) == token.Gen+1 &&
			bytes.Equal(blob(session["attempt"]), attempt[:])
		if !isRepeated {
			return nil, errInvalidRefreshToken
		}
		return session, nil
	}
	if err != nil {
		return nil, err
	}
	return out.Attributes, nil
}

func sign(typ, kid string, key []byte, claims jwt.Claims) (string, error) {
	token := jwt.NewWithClaims(jwt.SigningMethodHS256, claims)
	token.Header["typ"], token.Header["kid"] = typ, kid
	return token.SignedString(key)
}

func answer(status int, contentType string, body any) (events.APIGatewayV2HTTPResponse, error) {
	encoded, err := json.Marshal(body)
	headers := map[string]string{"content-type": contentType, "cache-control": "no-store"}
	return events.APIGatewayV2HTTPResponse{StatusCode: status, Headers: headers, Body: string(encoded)}, err
}

func text(value string) types.AttributeValue {
	return &types.AttributeValueMemberS{Value: value}
}

func integer(value int64) types.AttributeValue {
	return &types.AttributeValueMemberN{Value: strconv.FormatInt(value, 10)}
}

func number(value types.AttributeValue) int64 {
	number, _ := value.(*types.AttributeValueMemberN)
	if number == nil {
		return 0
	}
	parsed, _ := strconv.ParseInt(number.Value, 10, 64)
	return parsed
}

func blob(value types.AttributeValue) []byte {
	if bytes, ok := value.(*types.AttributeValueMemberB); ok {
		return bytes.Value
	}
	return nil
}

func main() {
	f, err := newFunction(context.Background())
	if err != nil {
		panic(err)
	}
	lambda.Start(f.handle)
}
