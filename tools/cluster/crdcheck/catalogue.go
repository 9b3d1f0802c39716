package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"sigs.k8s.io/yaml"
)

// A definition is one served version of one kind, ready to check objects.
type definition struct {
	namespaced bool
	structural *schema.Structural
	validator  validation.SchemaValidator
	rules      *cel.Validator
}

// A catalogue holds the CustomResourceDefinitions found; validators are built when first needed.
type catalogue struct {
	crds  map[string]*apiextensions.CustomResourceDefinition
	ready map[string]*definition
}

func load(directories []string) (*catalogue, error) {
	found := &catalogue{
		crds:  map[string]*apiextensions.CustomResourceDefinition{},
		ready: map[string]*definition{},
	}
	for _, directory := range directories {
		files, err := filepath.Glob(filepath.Join(directory, "*.yaml"))
		if err != nil {
			return nil, err
		}
		if directory == "" || len(files) == 0 {
			return nil, fmt.Errorf("--crds: no *.yaml file in directory %q", directory)
		}
		for _, file := range files {
			if err := found.read(file); err != nil {
				return nil, fmt.Errorf("%s: %w", file, err)
			}
		}
	}
	return found, nil
}

func (c *catalogue) read(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	documents := utilyaml.NewDocumentDecoder(io.NopCloser(bytes.NewReader(text)))
	defer documents.Close()
	buffer := make([]byte, len(text)+1)
	for {
		length, err := documents.Read(buffer)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := c.add(buffer[:length]); err != nil {
			return err
		}
	}
}

func (c *catalogue) add(document []byte) error {
	var external apiextensionsv1.CustomResourceDefinition
	if err := yaml.Unmarshal(document, &external); err != nil {
		return err
	}
	if external.Kind != "CustomResourceDefinition" {
		return nil
	}
	var crd apiextensions.CustomResourceDefinition
	err := apiextensionsv1.Convert_v1_CustomResourceDefinition_To_apiextensions_CustomResourceDefinition(
		&external, &crd, nil)
	if err != nil {
		return err
	}
	for _, version := range crd.Spec.Versions {
		if version.Served {
			c.crds[key(crd.Spec.Group+"/"+version.Name, crd.Spec.Names.Kind)] = &crd
		}
	}
	return nil
}

func key(apiVersion, kind string) string { return kind + "." + apiVersion }

func (c *catalogue) find(apiVersion, kind string) (*definition, error) {
	wanted := key(apiVersion, kind)
	if known, ok := c.ready[wanted]; ok {
		return known, nil
	}
	crd, ok := c.crds[wanted]
	if !ok {
		return nil, fmt.Errorf("no definition serves apiVersion %q kind %q; known: %s",
			apiVersion, kind, strings.Join(c.names(), ", "))
	}
	_, version, _ := strings.Cut(apiVersion, "/")
	built, err := build(crd, version)
	if err != nil {
		return nil, fmt.Errorf("definition of %s: %w", wanted, err)
	}
	c.ready[wanted] = built
	return built, nil
}

func (c *catalogue) names() []string {
	names := make([]string, 0, len(c.crds))
	for name := range c.crds {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func build(crd *apiextensions.CustomResourceDefinition, version string) (*definition, error) {
	custom, err := apiextensions.GetSchemaForVersion(crd, version)
	if err != nil {
		return nil, err
	}
	if custom == nil || custom.OpenAPIV3Schema == nil {
		return nil, errors.New("has no schema")
	}
	structural, err := schema.NewStructural(custom.OpenAPIV3Schema)
	if err != nil {
		return nil, err
	}
	if err := defaulting.PruneDefaults(structural); err != nil {
		return nil, err
	}
	validator, _, err := validation.NewSchemaValidator(custom.OpenAPIV3Schema)
	if err != nil {
		return nil, err
	}
	return &definition{
		namespaced: crd.Spec.Scope == apiextensions.NamespaceScoped,
		structural: structural,
		validator:  validator,
		rules:      cel.NewValidator(structural, true, celconfig.PerCallLimit),
	}, nil
}
