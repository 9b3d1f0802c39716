// Command crdcheck validates custom resources against their definitions the way an API server
// does on create: unknown fields, defaults, schema, list types, metadata and CEL rules.
//
//	crdcheck --crds DIR[,DIR…] < objects.json
//
// Standard input is a JSON array of objects. Standard output is a JSON array with one result per
// object, in order. The exit status is 0 when every object could be looked at, valid or not, and
// 2 when the definitions or the input could not be read.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	utiljson "k8s.io/apimachinery/pkg/util/json"
)

type result struct {
	Index  int      `json:"index"`
	Kind   string   `json:"kind"`
	Name   string   `json:"name"`
	Errors []string `json:"errors"`
}

func main() {
	directories := flag.String("crds", "", "directories with CustomResourceDefinition files, comma separated")
	flag.Parse()
	if err := run(strings.Split(*directories, ","), os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "crdcheck:", err)
		os.Exit(2)
	}
}

func run(directories []string, in io.Reader, out io.Writer) error {
	definitions, err := load(directories)
	if err != nil {
		return err
	}
	text, err := io.ReadAll(in)
	if err != nil {
		return err
	}
	var objects []interface{}
	// The API server's decoder: whole numbers become int64, as the validators expect.
	if err := utiljson.Unmarshal(text, &objects); err != nil {
		return fmt.Errorf("standard input is not a JSON array: %w", err)
	}
	results := make([]result, 0, len(objects))
	for index, object := range objects {
		results = append(results, examine(definitions, index, object))
	}
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(results)
}

func examine(definitions *catalogue, index int, object interface{}) result {
	fields, isObject := object.(map[string]interface{})
	if !isObject {
		return result{Index: index, Errors: []string{"is not an object"}}
	}
	kind, _ := fields["kind"].(string)
	apiVersion, _ := fields["apiVersion"].(string)
	name := ""
	if metadata, ok := fields["metadata"].(map[string]interface{}); ok {
		name, _ = metadata["name"].(string)
	}
	found := result{Index: index, Kind: kind, Name: name, Errors: []string{}}
	definition, err := definitions.find(apiVersion, kind)
	if err != nil {
		found.Errors = append(found.Errors, err.Error())
		return found
	}
	found.Errors = append(found.Errors, definition.check(fields)...)
	return found
}
