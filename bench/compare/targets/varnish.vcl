vcl 4.1;

backend default {
	.host = "{{.Host}}";
	.port = "{{.Port}}";
}

sub vcl_recv {
	return (hash);
}

sub vcl_backend_response {
	set beresp.ttl = 24h;
	set beresp.uncacheable = false;
}
