// grt/grt.hpp - includes all public headers.
#pragma once
#include <grt/chan.hpp>
#include <grt/context.hpp>
#include <grt/debug.hpp>
#include <grt/defer.hpp>
#include <grt/go.hpp>
#include <grt/local.hpp>
#include <grt/runtime.hpp>
#include <grt/scope.hpp>
#include <grt/select.hpp>
#include <grt/sync.hpp>
#include <grt/task.hpp>
#include <grt/time.hpp>
#include <grt/trace.hpp>
#include <grt/version.hpp>
