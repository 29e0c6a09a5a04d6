package upstream

import (
	"reflect"
	"strings"
	"testing"
)

func TestParseChallenges(t *testing.T) {
	type params = map[string]string
	f := func(lines []string, want ...challenge) {
		t.Helper()
		if got := parseChallenges(lines); len(got)+len(want) > 0 && !reflect.DeepEqual(got, want) {
			t.Errorf("%q:\n got %v\nwant %v", lines, got, want)
		}
	}
	hub := challenge{"bearer", params{"realm": "https://auth.docker.io/token", "service": "registry.docker.io", "scope": "repository:library/x:pull"}}
	f([]string{`Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/x:pull"`}, hub)
	f([]string{`  bearer   REALM = "https://auth.docker.io/token" ,, Service="registry.docker.io",scope="repository:library/x:pull" ,`}, hub)
	f([]string{`Bearer scope="repository:a:pull,push",realm="r"`}, challenge{"bearer", params{"scope": "repository:a:pull,push", "realm": "r"}})
	f([]string{`Bearer realm="say \"hi\", \\",service=plain`}, challenge{"bearer", params{"realm": `say "hi", \`, "service": "plain"}})
	f([]string{`Bearer realm=https://reg.example/token,service=x`}, challenge{"bearer", params{"realm": "https://reg.example/token", "service": "x"}})
	f([]string{`Basic realm="a", Bearer realm="b"`}, challenge{"basic", params{"realm": "a"}}, challenge{"bearer", params{"realm": "b"}})
	f([]string{`Basic realm="a"`, `Bearer realm="b"`}, challenge{"basic", params{"realm": "a"}}, challenge{"bearer", params{"realm": "b"}})
	f([]string{`Negotiate, Basic realm="a"`}, challenge{"negotiate", params{}}, challenge{"basic", params{"realm": "a"}})
	f([]string{`Negotiate YWJj/+==, Basic realm="a"`}, challenge{"negotiate", params{}}, challenge{"basic", params{"realm": "a"}})
	f([]string{`Bearer`}, challenge{"bearer", params{}})
	f([]string{`Bearer realm="first",realm="second"`}, challenge{"bearer", params{"realm": "first"}})
	f([]string{`Bearer realm="never ends`}, challenge{"bearer", params{}})
	f([]string{`realm="nobody's"`})
	f([]string{`"quoted"`})
	f([]string{""})
	f(nil)
}

func FuzzParseChallenges(f *testing.F) {
	f.Add(`Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/x:pull,push"`)
	f.Add(`Basic realm="a", Bearer realm="b"`)
	f.Add(`Negotiate YWJj==, Digest qop="auth, auth-int", nonce=abc`)
	f.Add(`Bearer realm="say \"hi\"`)
	f.Add(`a=b=c,,==`)
	f.Fuzz(func(t *testing.T, line string) {
		found := parseChallenges([]string{line, line})
		if len(found) > maxChallenges {
			t.Errorf("%d challenges", len(found))
		}
		for _, c := range found {
			if c.scheme == "" || c.scheme != strings.ToLower(c.scheme) || c.params == nil {
				t.Errorf("bad challenge %+v", c)
			}
			for key := range c.params {
				if key == "" || key != strings.ToLower(key) {
					t.Errorf("bad parameter %q", key)
				}
			}
		}
	})
}
