package oci_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"mirror/internal/oci"
)

// imageJSON is a manifest with a config and two layers, the second of which lives elsewhere.
var imageJSON = fmt.Sprintf(`{
  "schemaVersion": 2,
  "mediaType": %q,
  "artifactType": "application/vnd.example.sbom",
  "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": %q, "size": 5},
  "layers": [
    {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": %q, "size": 1234},
    {"mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar", "digest": "sha256:%064d", "size": 9, "urls": ["https://elsewhere.example/l"]}
  ],
  "subject": {"mediaType": %q, "digest": "sha256:%064d", "size": 77},
  "annotations": {"org.opencontainers.image.title": "an image"}
}`, oci.MediaTypeImageManifest, hello256, hello512, 1, oci.MediaTypeImageIndex, 2)

func TestParseManifestImage(t *testing.T) {
	m, err := oci.ParseManifest(oci.MediaTypeImageManifest+"; charset=utf-8", []byte(imageJSON))
	if err != nil {
		t.Fatal(err)
	}
	config := oci.Descriptor{MediaType: "application/vnd.oci.image.config.v1+json", Digest: oci.MustParseDigest(hello256), Size: 5}
	layer := oci.Descriptor{MediaType: "application/vnd.oci.image.layer.v1.tar+gzip", Digest: oci.MustParseDigest(hello512), Size: 1234}
	if m.MediaType != oci.MediaTypeImageManifest || m.ArtifactType != "application/vnd.example.sbom" || m.Config != config {
		t.Errorf("manifest is %+v", m)
	}
	if !slices.Equal(m.Children, []oci.Descriptor{config, layer}) {
		t.Errorf("children are %+v", m.Children)
	}
	if m.Subject.Digest.String() != fmt.Sprintf("sha256:%064d", 2) || m.Subject.Size != 77 {
		t.Errorf("subject is %+v", m.Subject)
	}
	if m.Annotations["org.opencontainers.image.title"] != "an image" {
		t.Errorf("annotations are %v", m.Annotations)
	}
}

func TestParseManifestChildren(t *testing.T) {
	f := func(body string, want ...string) {
		t.Helper()
		m, err := oci.ParseManifest(oci.MediaTypeImageIndex, []byte(body))
		if err != nil {
			t.Fatalf("%s: %v", body, err)
		}
		var got []string
		for _, child := range m.Children {
			got = append(got, fmt.Sprintf("%s %d %s", child.Digest.Encoded()[:4], child.Size, child.MediaType))
		}
		if !slices.Equal(got, want) {
			t.Fatalf("children of %s are %q, want %q", body, got, want)
		}
	}
	list := func(descriptor string) string { return `{"manifests": [` + descriptor + `]}` }

	f(`{"manifests": []}`)
	f(`{"manifests": null}`)
	f(list(`{"digest": "`+hello256+`", "size": 5, "mediaType": "a/b"}`), "2cf2 5 a/b")
	f(list(`{"digest": "`+hello256+`", "size": 5}, {"digest": "`+hello512+`", "size": 6}`), "2cf2 5 ", "9b71 6 ")
	// One child in a foreign algorithm, or malformed, does not spoil the others.
	f(list(`{"digest": "sha384:00", "size": 5}, {"digest": "`+hello256+`", "size": 5}`), "2cf2 5 ")
	f(list(`{"digest": "", "size": 5}, {}, {"digest": "`+hello256+`", "size": 5}`), "2cf2 5 ")
	// Sizes that cannot be true; a size of zero is true for no bytes only.
	f(list(`{"digest": "` + hello256 + `", "size": -1}`))
	f(list(`{"digest": "` + hello256 + `"}`))
	f(list(`{"digest": "`+empty256+`", "size": 0}`), "e3b0 0 ")
	// Media types that could not stand in a header are dropped, parameters are kept.
	f(list(`{"digest": "`+hello256+`", "size": 5, "mediaType": "a/b\r\nX-Evil: 1"}`), "2cf2 5 ")
	f(list(`{"digest": "`+hello256+`", "size": 5, "mediaType": "nonsense"}`), "2cf2 5 ")
	f(list(`{"digest": "`+hello256+`", "size": 5, "mediaType": "a/`+strings.Repeat("b", 300)+`"}`), "2cf2 5 ")
	f(list(`{"digest": "`+hello256+`", "size": 5, "mediaType": "a/b; v=1"}`), "2cf2 5 a/b; v=1")
	// A descriptor with empty "urls" lives here.
	f(list(`{"digest": "`+hello256+`", "size": 5, "urls": []}`), "2cf2 5 ")
	f(list(`{"digest": "` + hello256 + `", "size": 5, "urls": ["https://elsewhere.example"]}`))
	// The subject is not a child.
	f(`{"manifests": [], "subject": {"digest": "` + hello256 + `", "size": 5}}`)
}

func TestParseManifestType(t *testing.T) {
	f := func(declared, body, want string) {
		t.Helper()
		m, err := oci.ParseManifest(declared, []byte(body))
		if err != nil || m.MediaType != want {
			t.Fatalf("ParseManifest(%q, %s) is of type %q, %v; want %q", declared, body, m.MediaType, err, want)
		}
	}
	index, image := `{"manifests": []}`, `{"config": {}, "layers": []}`

	// What is declared counts, whatever the bytes say.
	f(oci.MediaTypeDockerManifest, index, oci.MediaTypeDockerManifest)
	f("Application/Vnd.OCI.Image.Index.v1+json", image, oci.MediaTypeImageIndex)
	f("application/vnd.example.new+json", `{}`, "application/vnd.example.new+json")
	// A generic, missing or malformed type is replaced by what the bytes say.
	for _, generic := range []string{"", "text/plain", "text/plain; charset=utf-8", "application/json", oci.MediaTypeOctetStream, "nonsense", "a/b\r\nX-Evil: 1"} {
		f(generic, index, oci.MediaTypeImageIndex)
		f(generic, image, oci.MediaTypeImageManifest)
		f(generic, `{"layers": []}`, oci.MediaTypeImageManifest)
		f(generic, `{"mediaType": "`+oci.MediaTypeDockerList+`", "manifests": []}`, oci.MediaTypeDockerList)
	}
	// So is a field "mediaType" that is generic or could not stand in a header.
	f("", `{"mediaType": "application/json", "manifests": []}`, oci.MediaTypeImageIndex)
	f("", `{"mediaType": "a/b\r\nX-Evil: 1", "manifests": []}`, oci.MediaTypeImageIndex)
	f("", "\n\t {\"manifests\": []}", oci.MediaTypeImageIndex)
}

func TestParseManifestRefuses(t *testing.T) {
	f := func(declared, body, mention string) {
		t.Helper()
		m, err := oci.ParseManifest(declared, []byte(body))
		wantCode(t, err, oci.ManifestInvalid)
		if m.MediaType != "" || m.Children != nil {
			t.Fatalf("a refused manifest is %+v", m)
		}
		if !strings.Contains(err.Error(), mention) {
			t.Fatalf("error for %.80q is %q, want it to mention %q", body, err, mention)
		}
	}
	for _, declared := range []string{"", oci.MediaTypeImageManifest} {
		f(declared, "", "not JSON")
		f(declared, "<!DOCTYPE html>", "not JSON")
		f(declared, `{"manifests": []`, "not JSON")
		f(declared, `{"manifests": []} {}`, "not JSON")
		f(declared, `[]`, "not JSON")
		f(declared, `"text"`, "not JSON")
		f(declared, `null`, "not a JSON object")
		f(declared, `{"manifests": {}}`, "not JSON")
		f(declared, `{"layers": [{"size": "big"}]}`, "not JSON")
		f(declared, `{"layers": [{"size": `+strings.Repeat("9", 1<<16)+`}]}`, "not JSON")
	}
	f("", `{}`, "no field")
	f("text/plain", `{"errors": []}`, "no field")
	f(strings.Repeat("\x00", 1<<16), `{}`, "no field")
	f("", `{"schemaVersion": 1, "fsLayers": [{"blobSum": "`+hello256+`"}]}`, "schema 1")
	f(oci.MediaTypeSchema1Signed, `{"fsLayers": []}`, "schema 1")
	f("", `{"mediaType": "`+oci.MediaTypeSchema1+`"}`, "schema 1")
}

func FuzzParseManifest(f *testing.F) {
	f.Add("", imageJSON)
	f.Add(oci.MediaTypeImageIndex, `{"manifests": [{"digest": "`+hello256+`", "size": 5}]}`)
	f.Add("text/plain", `{"fsLayers": [{}]}`)
	f.Add("a/b; c", `{"mediaType": "x/y\n", "layers": [{"digest": "sha256:", "size": -1}]}`)
	f.Add("", `null`)
	f.Add("", `{"config": null, "layers": [null], "manifests": [[]]}`)
	f.Fuzz(func(t *testing.T, declared, body string) {
		m, err := oci.ParseManifest(declared, []byte(body))
		if err != nil {
			wantCode(t, err, oci.ManifestInvalid)
			return
		}
		if m.MediaType == "" || m.MediaType == oci.MediaTypeSchema1 || m.MediaType == oci.MediaTypeSchema1Signed {
			t.Fatalf("type is %q", m.MediaType)
		}
		for _, d := range append(m.Children, oci.Descriptor{MediaType: m.MediaType, Digest: oci.MustParseDigest(empty256)}) {
			if d.Digest.IsZero() || d.Size < 0 || len(d.MediaType) > 255 || strings.ContainsAny(d.MediaType, "\r\n\x00") {
				t.Fatalf("descriptor is %+v", d)
			}
		}
	})
}

func TestParseManifestPlatforms(t *testing.T) {
	f := func(platform, want string) {
		t.Helper()
		body := fmt.Sprintf(`{"manifests": [{"digest": %q, "size": 5, "platform": %s}]}`, hello256, platform)
		m, err := oci.ParseManifest(oci.MediaTypeImageIndex, []byte(body))
		if err != nil {
			t.Fatalf("%s: %v", platform, err)
		}
		got := ""
		for d, p := range m.Platforms {
			got += p.String()
			if d.String() != hello256 {
				t.Errorf("%s is said of %s", platform, d)
			}
		}
		if got != want || len(m.Children) != 1 {
			t.Errorf("platform %s is %q, want %q; the index has %d children", platform, got, want, len(m.Children))
		}
	}
	f(`{"os": "linux", "architecture": "amd64"}`, "linux/amd64")
	f(`{"os": "linux", "architecture": "arm", "variant": "v7", "os.features": ["x"]}`, "linux/arm/v7")
	f(`{"os": "unknown", "architecture": "unknown"}`, "")
	f(`{"architecture": "amd64"}`, "")
	f(`{"os": 7}`, "")
	f(`"linux/amd64"`, "")
	f(`null`, "")
	f(`{"os": "`+strings.Repeat("x", 65)+`", "architecture": "amd64"}`, "")
}
