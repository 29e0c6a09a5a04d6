// Command mirror is a pull-through caching mirror for container images.
package main
