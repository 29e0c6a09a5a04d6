package signin

import (
	"encoding/hex"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestSignature uses the requests of AWS's published test suite for Signature Version 4, and the worked example of its
// documentation (the request to IAM).
func TestSignature(t *testing.T) {
	keys := awsKeys{id: "AKIDEXAMPLE", secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"}
	now := time.Date(2015, 8, 30, 12, 36, 0, 0, time.UTC)
	f := func(method, address, service, contentType, body, want string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if contentType != "" {
			req.Header.Set("Content-Type", contentType)
		}
		keys.sign(req, body, "us-east-1", service, now)
		if got := req.Header.Get("Authorization"); !strings.HasSuffix(got, "Signature="+want) {
			t.Errorf("%s %s: got %s, want the signature %s", method, address, got, want)
		}
	}
	form := "application/x-www-form-urlencoded"
	f("GET", "https://example.amazonaws.com/", "service", "", "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31")
	f("POST", "https://example.amazonaws.com", "service", "", "", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b")
	f("POST", "https://example.amazonaws.com/", "service", form, "Param1=value1", "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a")
	f("GET", "https://iam.amazonaws.com/?Version=2010-05-08&Action=ListUsers", "iam", form+"; charset=utf-8", "", "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7")
}

func TestSigningKey(t *testing.T) {
	keys := awsKeys{secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"}
	want := "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9"
	if got := hex.EncodeToString(keys.signingKey("20150830", "us-east-1", "iam")); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestSignedHeaders(t *testing.T) {
	keys := awsKeys{id: "AKIDEXAMPLE", secret: "x", session: "session"}
	req, err := http.NewRequestWithContext(t.Context(), "POST", "https://example.amazonaws.com/", nil)
	if err != nil {
		t.Fatal(err)
	}
	keys.sign(req, "", "us-east-1", "service", time.Unix(0, 0))
	if got := req.Header.Get("Authorization"); !strings.Contains(got, "SignedHeaders=host;x-amz-date;x-amz-security-token,") ||
		!strings.Contains(got, "Credential=AKIDEXAMPLE/19700101/us-east-1/service/aws4_request,") {
		t.Errorf("got %s", got)
	}
}
