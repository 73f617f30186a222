#!/bin/sh
# Fetches Debian's Kubernetes as source, its kubectl, and the Go that it was made with, and builds the API
# server and the controllers in the folder $1. Nothing is installed; what only the build needs is deleted.
# Takes about 4 GB and some minutes. Needs apt-get, dpkg and Debian's keys.
set -eu
cd "$1"
version='1.20.5+really1.20.2-1.1+deb12u1'
here=$PWD

mkdir -p apt/lists/partial apt/cache/archives/partial unpacked
key=/usr/share/keyrings/debian-archive-keyring.gpg
for kind in deb deb-src; do
    echo "$kind [signed-by=$key] http://deb.debian.org/debian bookworm main"
    echo "$kind [signed-by=$key] http://deb.debian.org/debian-security bookworm-security main"
done > apt/sources.list
fetch() {
    apt-get -qq -o Dir::Etc::sourcelist="$here/apt/sources.list" -o Dir::Etc::sourceparts=/dev/null \
        -o Dir::State::lists="$here/apt/lists" -o Dir::Cache="$here/apt/cache" \
        -o APT::Sandbox::User=root "$@"
}
fetch update
fetch download golang-1.19-go golang-1.19-src golang-github-modern-go-reflect2-dev kubernetes-client="$version"
fetch source --download-only kubernetes="$version"
for package in *.deb; do
    dpkg -x "$package" unpacked
done

# Where Go looks for packages, as that version of Kubernetes has it.
export GOROOT="$here/unpacked/usr/lib/go-1.19" GOPATH="$here/go" GOCACHE="$here/cache" HOME="$here"
export GO111MODULE=off GOPROXY=off CGO_ENABLED=0
PATH="$GOROOT/bin:$PATH"
root=$GOPATH/src/k8s.io/kubernetes
mkdir -p "$root"
tar -xzf kubernetes_*.orig.tar.gz --strip-components=1 -C "$root"
cd "$root"

# The reflect2 that it carries reads memory that is not there if built with Go 1.18 or newer.
reflect2=vendor/github.com/modern-go/reflect2
rm -r $reflect2
cp -r "$here/unpacked/usr/share/gocode/src/github.com/modern-go/reflect2" $reflect2

# One file is made and not published: what the API's types look like.
go build -o "$here/openapi-gen" ./vendor/k8s.io/kube-openapi/cmd/openapi-gen
cd staging/src
types=$(grep -rl --include='*.go' '+k8s:openapi-gen=' k8s.io/api k8s.io/apiextensions-apiserver \
    k8s.io/apimachinery k8s.io/apiserver k8s.io/kube-aggregator | xargs -n 1 dirname | sort -u |
    sed 's|^|k8s.io/kubernetes/vendor/|' | paste -sd ,)
cd "$root"
"$here/openapi-gen" --logtostderr -i "$types" -p k8s.io/kubernetes/pkg/generated/openapi \
    -O zz_generated.openapi -h hack/boilerplate/boilerplate.generatego.txt -r "$here/violations"

for program in kube-apiserver kube-controller-manager; do
    go build -o "$here/$program" "./cmd/$program"
done
cp "$here/unpacked/usr/bin/kubectl" "$here/kubectl"
cd "$here"
chmod -R u+w go cache unpacked
rm -rf apt go cache unpacked openapi-gen violations ./*.deb kubernetes_*
