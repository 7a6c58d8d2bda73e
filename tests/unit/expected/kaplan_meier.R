# Makes kaplan_meier_{counts,curves,medians,times}.csv with R's survival package: Rscript kaplan_meier.R
library(survival)

made <- list(
  plateau_inside = data.frame(time = c(1, 2, 3, 4, 5, 6), status = c(1, 1, 1, 0, 1, 0)),
  plateau_at_half = data.frame(time = c(2, 4, 6, 8), status = c(1, 1, 1, 1)),
  plateau_last = data.frame(time = c(2, 4, 6, 9), status = c(1, 1, 0, 0)),
  plateau_last_ends = data.frame(time = c(2, 4, 4, 4), status = c(1, 1, 0, 0)),
  no_event = data.frame(time = c(5, 7, 7), status = c(0, 0, 0)),
  all_at_once = data.frame(time = c(10, 10, 10), status = c(1, 1, 1)),
  one = data.frame(time = 3, status = 1),
  on_day_zero = data.frame(time = c(0, 0, 1, 2, 3, 4, 5, 6), status = c(1, 0, 1, 1, 0, 0, 0, 1)),
  ties = data.frame(time = rep(c(3, 9, 9, 15, 30), c(4, 3, 5, 6, 7)), status = rep(c(1, 1, 0, 1, 0), c(4, 3, 5, 6, 7))),
  lung = data.frame(time = lung$time, status = lung$status - 1),
  veteran = data.frame(time = veteran$time, status = veteran$status),
  ovarian = data.frame(time = ovarian$futime, status = ovarian$fustat),
  leukaemia = data.frame(time = aml$time, status = aml$status)
)

number <- function(x) ifelse(is.na(x), "", trimws(formatC(x, digits = 16, format = "g")))
counts <- curves <- medians <- times <- NULL
for (name in names(made)) {
  data <- made[[name]]
  n <- aggregate(list(n = rep(1, nrow(data))), list(day = data$time, cause = data$status), sum)
  counts <- rbind(counts, data.frame(data = name, n))
  for (level in c(0.95, 0.8)) {
    fit <- survfit(Surv(time, status) ~ 1, data, conf.type = "log-log", conf.int = level)
    se <- fit$surv * fit$std.err
    curves <- rbind(curves, data.frame(
      data = name, level = level, day = fit$time, at_risk = fit$n.risk, events = fit$n.event,
      estimate = number(fit$surv), se = number(se), lower = number(fit$lower), upper = number(fit$upper)
    ))
    half <- quantile(fit, 0.5)
    medians <- rbind(medians, data.frame(
      data = name, level = level, days = number(half$quantile), lower = number(half$lower), upper = number(half$upper)
    ))
    days <- c(1, 3, 4, 100, 365, 1000)
    at <- summary(fit, times = days[days <= max(fit$time)])
    if (length(at$time)) times <- rbind(times, data.frame(
      data = name, level = level, day = at$time, at_risk = at$n.risk,
      estimate = number(at$surv), lower = number(at$lower), upper = number(at$upper)
    ))
  }
}
for (table in c("counts", "curves", "medians", "times"))
  write.csv(get(table), paste0("kaplan_meier_", table, ".csv"), row.names = FALSE, quote = FALSE)
