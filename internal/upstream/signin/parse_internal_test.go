package signin

import (
	"strings"
	"testing"
	"time"
)

func TestWebTokenLife(t *testing.T) {
	f := func(token string, want time.Duration) {
		t.Helper()
		if got := webTokenLife(token); got != want {
			t.Errorf("%q: got %v, want %v", token, got, want)
		}
	}
	f("e30.eyJpYXQiOjEwMDAsImV4cCI6MTE4MDB9.x", 3*time.Hour) // {"iat":1000,"exp":11800}
	f("e30.eyJleHAiOjExODAwfQ.x", 0)                         // {"exp":11800}
	f("e30.e30.x", 0)
	f("opaque", 0)
	f("a.!.c", 0)
}

// FuzzAnswers reads one text as every answer that a service can give. None may break the process, live absurdly long, or
// be an empty credential that passes for one.
func FuzzAnswers(f *testing.F) {
	f.Add(200, `{"authorizationData":[{"authorizationToken":"QVdTOnB3","expiresAt":1.7e9}]}`)
	f.Add(200, `{"authorizationData":{"authorizationToken":"QVdTOnB3","expiresAt":1e308}}`)
	f.Add(200, `{"authorizationData":[]}`)
	f.Add(200, `{"access_token":"t","expires_in":"3600"}`)
	f.Add(200, `{"access_token":"t","expires_in":-1e300}`)
	f.Add(400, `{"__type":"a#InvalidSignatureException","message":"s3cret"}`)
	f.Add(200, `<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>a</AccessKeyId></Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`)
	f.Add(400, `<ErrorResponse><Error><Code>c</Code><Message>m</Message></Error></ErrorResponse>`)
	f.Fuzz(func(t *testing.T, status int, body string) {
		a := answer{from: "https://cloud.example/", status: status, body: []byte(body)}
		grant, err := (&ecr{}).grant(a)
		if err == nil && (grant.Credential.Password == "" || grant.Life > longestECR) {
			t.Errorf("ECR: %+v", grant)
		}
		if grant, err = googleGrant(a); err == nil && (grant.Credential.Password == "" || grant.Life > longestGoogle || grant.Life < 0) {
			t.Errorf("Google: %+v", grant)
		}
		if keys, err := readSession(a); err == nil && keys.id == "" {
			t.Error("a session without keys")
		}
		if keys, err := readKeys(a, ""); err == nil && (keys.id == "" || keys.secret == "") {
			t.Error("no keys")
		}
		_, _ = stsError(a.body)
		err = (&ecr{}).refused(a, awsKeys{secret: "s3cret"})
		if text := err.Error(); strings.Contains(text, "s3cret") && !strings.Contains(awsCode(a.body), "s3cret") || strings.ContainsAny(text, "\r\n") {
			t.Errorf("refusal: %q", text)
		}
		if life := webTokenLife(body); life < 0 || life > 24*time.Hour {
			t.Errorf("a web token lives %v", life)
		}
	})
}

func FuzzProfile(f *testing.F) {
	f.Add("[default]\naws_access_key_id = a\naws_secret_access_key = b\naws_session_token=c\n")
	f.Add("[ default ]\n# comment\n=x\n[other]\naws_access_key_id=z")
	f.Fuzz(func(t *testing.T, text string) {
		keys := parseProfile([]byte(text), "default")
		if strings.ContainsAny(keys.id+keys.secret+keys.session, "\n") {
			t.Errorf("%q became %+v", text, keys)
		}
	})
}

func FuzzHost(f *testing.F) {
	f.Add("123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com:443")
	f.Add("public.ecr.aws")
	f.Add("europe-docker.pkg.dev")
	f.Fuzz(func(t *testing.T, host string) {
		form, _ := Form(host)
		if name, ok := parseECR(host); ok != (form == "ecr") || ok && !strings.HasPrefix(name.api(), "https://") {
			t.Errorf("%q: %v, %s", host, ok, form)
		}
	})
}

func TestCloudOf(t *testing.T) {
	f := func(host, authority, audience string) {
		t.Helper()
		if got := cloudOf(host); got != (azureCloud{authority, audience}) {
			t.Errorf("%s: got %+v", host, got)
		}
	}
	f("example.azurecr.io", "https://login.microsoftonline.com", "https://containerregistry.azure.net")
	f("example.azurecr.cn", "https://login.chinacloudapi.cn", "https://containerregistry.azure.cn")
	f("example.azurecr.us", "https://login.microsoftonline.us", "https://containerregistry.azure.us")
	f("registry.corp.example", "https://login.microsoftonline.com", "https://containerregistry.azure.net")
}
