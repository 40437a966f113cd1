package main

import (
	"bytes"
	"fmt"
	"go/token"
	"go/types"
	"maps"
	"slices"
	"strings"
)

// A dumper writes what one package exports.
type dumper struct {
	pkg     *types.Package
	text    bytes.Buffer
	imports map[string]bool // paths of the packages that the text names
}

// dump is what a package exports as text: constants, variables, functions and types with their fields and methods, each
// in the order of their names but for fields, whose order can matter to users.
func dump(pkg *types.Package) string {
	d := &dumper{pkg: pkg, imports: make(map[string]bool)}
	scope := pkg.Scope()
	var consts, vars, funcs, typeNames []types.Object
	for _, name := range scope.Names() { // sorted
		if !token.IsExported(name) {
			continue
		}
		switch o := scope.Lookup(name).(type) {
		case *types.Const:
			consts = append(consts, o)
		case *types.Var:
			vars = append(vars, o)
		case *types.Func:
			funcs = append(funcs, o)
		case *types.TypeName:
			typeNames = append(typeNames, o)
		}
	}
	for _, group := range [][]types.Object{consts, vars, funcs} {
		if len(group) > 0 {
			d.line("")
		}
		for _, o := range group {
			d.object(o)
		}
	}
	for _, o := range typeNames {
		d.line("")
		d.typeName(o.(*types.TypeName))
	}
	var head strings.Builder
	head.WriteString("package " + pkg.Name() + " // " + pkg.Path() + "\n")
	if len(d.imports) > 0 {
		head.WriteString("\n")
	}
	for _, path := range slices.Sorted(maps.Keys(d.imports)) {
		fmt.Fprintf(&head, "import %q\n", path)
	}
	return head.String() + d.text.String()
}

func (d *dumper) line(format string, args ...any) { fmt.Fprintf(&d.text, format+"\n", args...) }

// object writes a constant, a variable or a function.
func (d *dumper) object(o types.Object) {
	switch o := o.(type) {
	case *types.Const:
		typ := ""
		if b, ok := o.Type().(*types.Basic); !ok || b.Info()&types.IsUntyped == 0 {
			typ = " " + d.typ(o.Type())
		}
		d.line("const %s%s = %s", o.Name(), typ, o.Val().ExactString())
	case *types.Var:
		d.line("var %s %s", o.Name(), d.typ(o.Type()))
	case *types.Func:
		d.line("func %s%s", o.Name(), d.signature(o))
	}
}

// typeName writes a type, what is in it, and its methods.
func (d *dumper) typeName(o *types.TypeName) {
	if alias, ok := o.Type().(*types.Alias); ok {
		d.line("type %s = %s", o.Name(), d.typ(alias.Rhs()))
		return
	}
	name := d.typ(o.Type()) // with type parameters, if there are any
	switch u := o.Type().Underlying().(type) {
	case *types.Struct:
		d.line("type %s struct {", name)
		d.fields(u)
		d.line("}")
	case *types.Interface:
		d.line("type %s interface {", name)
		d.elements(u)
		d.line("}")
		return
	default:
		d.line("type %s %s", name, d.typ(u))
	}
	d.methods(o.Type())
}

// fields writes the fields that users can name, also through an embedded struct that they cannot, and whether there are
// others: these decide about literals without keys.
func (d *dumper) fields(s *types.Struct) {
	if d.exportedFields(s) {
		d.line("\t// and unexported fields")
	}
}

func (d *dumper) exportedFields(s *types.Struct) (others bool) {
	for i := range s.NumFields() {
		f := s.Field(i)
		if !f.Exported() {
			others = true
			if inner, ok := f.Type().Underlying().(*types.Struct); ok && f.Embedded() {
				d.exportedFields(inner)
			}
			continue
		}
		text := f.Name() + " " + d.typ(f.Type())
		if f.Embedded() {
			text = d.typ(f.Type())
		}
		if tag := s.Tag(i); tag != "" {
			text += " `" + tag + "`"
		}
		d.line("\t%s", text)
	}
	return others
}

// elements writes what an interface asks for, and whether types outside of the package can have it at all.
func (d *dumper) elements(i *types.Interface) {
	others := false
	for e := range i.EmbeddedTypes() {
		d.line("\t%s", d.typ(e))
	}
	methods := slices.SortedFunc(i.ExplicitMethods(), func(a, b *types.Func) int { return strings.Compare(a.Name(), b.Name()) })
	for _, m := range methods {
		if !m.Exported() {
			others = true
			continue
		}
		d.line("\t%s%s", m.Name(), d.signature(m))
	}
	if others {
		d.line("\t// and unexported methods")
	}
}

// methods writes the methods of a type, those too that an embedded field brings.
func (d *dumper) methods(t types.Type) {
	values := types.NewMethodSet(t)
	pointers := types.NewMethodSet(types.NewPointer(t))
	for m := range pointers.Methods() { // sorted
		f := m.Obj().(*types.Func)
		if !f.Exported() {
			continue
		}
		star := "*"
		if values.Lookup(f.Pkg(), f.Name()) != nil {
			star = ""
		}
		d.line("func (%s%s) %s%s", star, d.typ(t), f.Name(), d.signature(f))
	}
}

func (d *dumper) typ(t types.Type) string { return types.TypeString(t, d.qualify) }

func (d *dumper) signature(f *types.Func) string {
	var b bytes.Buffer
	types.WriteSignature(&b, f.Signature(), d.qualify)
	return b.String()
}

// qualify is how another package is named in the text.
func (d *dumper) qualify(p *types.Package) string {
	if p == d.pkg {
		return ""
	}
	d.imports[p.Path()] = true
	return p.Name()
}
