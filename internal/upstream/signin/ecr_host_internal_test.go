package signin

import "testing"

func TestParseECR(t *testing.T) {
	f := func(host, account, api, sts string) {
		t.Helper()
		name, ok := parseECR(host)
		if ok != (api != "") {
			t.Errorf("%s: recognised %v", host, ok)
			return
		}
		if ok && (name.account != account || name.api() != api || name.sts() != sts) {
			t.Errorf("%s: account %s, %s, %s, want %s, %s, %s", host, name.account, name.api(), name.sts(), account, api, sts)
		}
	}
	f("123456789012.dkr.ecr.eu-central-1.amazonaws.com", "123456789012", "https://api.ecr.eu-central-1.amazonaws.com", "https://sts.eu-central-1.amazonaws.com")
	f("123456789012.dkr.ecr.eu-central-1.amazonaws.com:443", "123456789012", "https://api.ecr.eu-central-1.amazonaws.com", "https://sts.eu-central-1.amazonaws.com")
	f("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn", "123456789012", "https://api.ecr.cn-north-1.amazonaws.com.cn", "https://sts.cn-north-1.amazonaws.com.cn")
	f("123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com", "123456789012", "https://ecr-fips.us-gov-west-1.amazonaws.com", "https://sts-fips.us-gov-west-1.amazonaws.com")
	f("123456789012.dkr-ecr.us-east-2.on.aws", "123456789012", "https://ecr.us-east-2.api.aws", "https://sts.us-east-2.amazonaws.com")
	f("123456789012.dkr-ecr-fips.us-east-2.on.aws", "123456789012", "https://ecr-fips.us-east-2.api.aws", "https://sts-fips.us-east-2.amazonaws.com")
	f("123456789012.dkr-ecr.cn-north-1.on.amazonwebservices.com.cn", "123456789012", "https://ecr.cn-north-1.api.amazonwebservices.com.cn", "https://sts.cn-north-1.amazonaws.com.cn")
	f("public.ecr.aws", "", "https://api.ecr-public.us-east-1.amazonaws.com", "https://sts.us-east-1.amazonaws.com")
	f("123456789012.dkr.ecr.eu-central-1.amazonaws.com.attacker.example", "", "", "")
	f("123456789012.dkr.ecr.eu-central-1.attacker.example", "", "", "")
	f("12345.dkr.ecr.eu-central-1.amazonaws.com", "", "", "")
	f("docker.io", "", "", "")
	f("", "", "", "")
}

func TestRegistryUnderANameOfItsOwn(t *testing.T) {
	f := func(region, api string) {
		t.Helper()
		if got := inRegion(region).api(); got != api {
			t.Errorf("%s: got %s, want %s", region, got, api)
		}
	}
	f("eu-west-1", "https://api.ecr.eu-west-1.amazonaws.com")
	f("cn-northwest-1", "https://api.ecr.cn-northwest-1.amazonaws.com.cn")
}

func TestForm(t *testing.T) {
	f := func(host, form string, private bool) {
		t.Helper()
		if got, gotPrivate := Form(host); got != form || gotPrivate != private {
			t.Errorf("%s: got %q, %v, want %q, %v", host, got, gotPrivate, form, private)
		}
	}
	f("123456789012.dkr.ecr.eu-central-1.amazonaws.com", "ecr", true)
	f("public.ecr.aws", "ecr", false)
	f("europe-west3-docker.pkg.dev", "google", false)
	f("gcr.io", "google", false)
	f("eu.gcr.io:443", "google", false)
	f("example.azurecr.io", "azure", false)
	f("example.azurecr.cn", "azure", false)
	f("azurecr.io.attacker.example", "", false)
	f("notgcr.io", "", false)
	f("docker.io", "", false)
}
