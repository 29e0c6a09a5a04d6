package config_test

import (
	"encoding"
	"fmt"
	"reflect"
	"strings"

	"mirror/internal/config"
)

// leaves lists the key of every value in a configuration that holds no further keys, with that value. Of a list of
// sections it walks the first entry only, under the position [0]; one that is empty by default is a value itself.
func leaves(cfg config.Config) map[string]reflect.Value {
	found := map[string]reflect.Value{}
	var walk func(key string, value reflect.Value)
	walk = func(key string, value reflect.Value) {
		_, isText := value.Addr().Interface().(encoding.TextUnmarshaler)
		switch {
		case value.Kind() == reflect.Pointer:
			walk(key, reflect.New(value.Type().Elem()).Elem()) // an optional section, which is absent by default
		case value.Kind() == reflect.Struct && !isText:
			for i := range value.NumField() {
				name, _, _ := strings.Cut(value.Type().Field(i).Tag.Get("yaml"), ",")
				walk(strings.TrimPrefix(key+"."+name, "."), value.Field(i))
			}
		case value.Kind() == reflect.Slice && value.Type().Elem().Kind() == reflect.Struct && value.Len() > 0:
			walk(fmt.Sprintf("%s[0]", key), value.Index(0))
		default:
			found[key] = value
		}
	}
	walk("", reflect.ValueOf(&cfg).Elem())
	return found
}
