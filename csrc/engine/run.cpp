#include <optional>

#include "engine/backend.h"
#include "engine/plan.h"

namespace lerac_fast::engine {

void run(Plan& plan, Scaling& scaling, bool keep_gil) {
  for (const auto& s : plan.scattered) s.dense.copy_(s.original);
  for (auto& table : plan.tables) {
    if (!table.rows.empty() && scaling.is_read_by(table.device)) table.scaling = scaling.on(table.device);
  }
  {
    std::optional<pybind11::gil_scoped_release> no_gil;
    if (!keep_gil) no_gil.emplace();
    for (auto& table : plan.tables) {
      if (!table.rows.empty()) find_backend(table.device.type())->update(table);
    }
  }
  for (const auto& s : plan.scattered) {
    if (s.written) s.original.copy_(s.dense);
  }
}

} // namespace lerac_fast::engine
