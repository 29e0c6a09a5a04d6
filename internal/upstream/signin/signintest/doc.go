// Package signintest is the clouds for tests: services on loopback that give out credentials as Amazon, Google and Azure
// do, check what they are shown as strictly as those do, count what they are asked, and know every secret that was ever
// on its way, so that a test can look for them where they must not be.
//
//	aws := signintest.NewAWS(t)
//	t.Setenv("AWS_ACCESS_KEY_ID", signintest.KeyID)
//	t.Setenv("AWS_SECRET_ACCESS_KEY", signintest.SecretKey)
//	// … sign in with endpoint aws.URL …
//	aws.Count("ecr")                 // how often a password was asked for
//	aws.Accepts("AWS", password)     // whether a registry would take it
//
// SetClock makes a service live at another time, SetLife shortens what it gives, Expire ends it, Refuse makes it say no
// and repeat all that it was sent.
package signintest
