// Reads Kubernetes manifests from standard input and decodes each document strictly into the API's own Go types: an
// unknown field, a wrong type or a key that stands twice is an error. Prints kind and name of each, or exits 1.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

var kinds = map[string]func() any{
	"apps/v1 DaemonSet":                      func() any { return &appsv1.DaemonSet{} },
	"apps/v1 Deployment":                     func() any { return &appsv1.Deployment{} },
	"apps/v1 StatefulSet":                    func() any { return &appsv1.StatefulSet{} },
	"autoscaling/v2 HorizontalPodAutoscaler": func() any { return &autoscalingv2.HorizontalPodAutoscaler{} },
	"networking.k8s.io/v1 NetworkPolicy":     func() any { return &networkingv1.NetworkPolicy{} },
	"policy/v1 PodDisruptionBudget":          func() any { return &policyv1.PodDisruptionBudget{} },
	"v1 ConfigMap":                           func() any { return &corev1.ConfigMap{} },
	"v1 Namespace":                           func() any { return &corev1.Namespace{} },
	"v1 Secret":                              func() any { return &corev1.Secret{} },
	"v1 Service":                             func() any { return &corev1.Service{} },
}

// decode is as strict as the API server: encoding/json would take a field in any case.
func decode(document []byte, into any) error {
	object, err := yaml.YAMLToJSONStrict(document)
	if err != nil {
		return err
	}
	strict, err := json.UnmarshalStrict(object, into)
	return errors.Join(append(strict, err)...)
}

func main() {
	failed := false
	documents := utilyaml.NewYAMLReader(bufio.NewReader(os.Stdin))
	for {
		document, err := documents.Read()
		if err == io.EOF {
			break
		}
		if err == nil {
			var head metav1.PartialObjectMetadata
			if err = yaml.Unmarshal(document, &head); err == nil {
				what := head.APIVersion + " " + head.Kind
				if make, known := kinds[what]; !known {
					err = fmt.Errorf("%s %s: no such kind is expected here", what, head.Name)
				} else if err = decode(document, make()); err != nil {
					err = fmt.Errorf("%s %s: %w", what, head.Name, err)
				} else {
					fmt.Println(what, head.Name)
				}
			}
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			failed = true
		}
	}
	if failed {
		os.Exit(1)
	}
}
