package main

import (
	"context"
	"fmt"

	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/objectmeta"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	metavalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
)

// check returns what an API server would refuse of object on create, and every field it would
// drop. The object is changed: unknown fields go, defaults come.
func (d *definition) check(object map[string]interface{}) []string {
	messages := d.unknownFields(object)
	errs := d.metadata(object)
	defaulting.PruneNonNullableNullsWithoutDefaults(object, d.structural)
	defaulting.Default(object, d.structural)
	if err, _ := objectmeta.CoerceWithOptions(nil, object, d.structural, false, objectmeta.CoerceOptions{}); err != nil {
		errs = append(errs, err)
	}
	errs = append(errs, validation.ValidateCustomResource(nil, object, d.validator)...)
	errs = append(errs, listtype.ValidateListSetsAndMaps(nil, d.structural, object)...)
	errs = append(errs, objectmeta.Validate(nil, object, d.structural, false)...)
	if len(errs) == 0 && d.rules != nil {
		// Rules are only compiled for objects of the right shape: a missing field would report twice.
		broken, _ := d.rules.Validate(context.Background(), nil, d.structural, object, nil, celconfig.RuntimeCELCostBudget)
		errs = append(errs, broken...)
	}
	for _, err := range errs {
		messages = append(messages, err.Error())
	}
	return messages
}

func (d *definition) unknownFields(object map[string]interface{}) []string {
	options := schema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true}
	paths := pruning.PruneWithOptions(object, d.structural, true, options)
	messages := make([]string, 0, len(paths))
	for _, path := range paths {
		messages = append(messages, fmt.Sprintf("%s: unknown field", path))
	}
	return messages
}

func (d *definition) metadata(object map[string]interface{}) field.ErrorList {
	path := field.NewPath("metadata")
	meta, found, unknown, err := objectmeta.GetObjectMetaWithOptions(
		object, objectmeta.ObjectMetaOptions{ReturnUnknownFieldPaths: true})
	if err != nil {
		return field.ErrorList{field.Invalid(path, object["metadata"], err.Error())}
	}
	if !found {
		return field.ErrorList{field.Required(path, "")}
	}
	errs := field.ErrorList{}
	for _, name := range unknown {
		errs = append(errs, field.Invalid(path, name, "unknown field"))
	}
	return append(errs, metavalidation.ValidateObjectMeta(
		meta, d.namespaced, metavalidation.NameIsDNSSubdomain, path)...)
}
