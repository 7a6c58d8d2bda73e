# Net survival of popEpi's sire (Finnish women with rectal cancer) with its popmort, overall and by two strata, by relsurv, and
# popEpi's own Pohar Perme beside it: Rscript sire.R, in this folder. r-cran-relsurv 2.2-9, r-cran-popepi (Debian).
suppressMessages({library(survival); library(relsurv); library(Epi); library(popEpi); library(data.table)})
digits <- function(x) sprintf("%.12g", x)
data(sire); data(popmort)
people <- as.data.frame(sire)
people$days <- as.numeric(people$ex_date) - as.numeric(people$dg_date)
people <- people[people$days > 0 & people$sex == 1, ]
people$old <- ifelse(people$dg_age >= 70, "old", "young")
people$late <- ifelse(as.numeric(format(as.Date(people$dg_date), "%Y")) >= 2003, "late", "early")
people$age_days <- as.numeric(people$dg_date) - as.numeric(people$bi_date)
people$died <- as.integer(people$status > 0)
women <- as.data.frame(popmort[popmort$sex == 1, ])
years <- sort(unique(women$year)); ages <- sort(unique(women$agegroup))
hazard <- matrix(NA, length(ages), length(years))
hazard[cbind(match(women$agegroup, ages), match(women$year, years))] <- women$haz
write.csv(data.frame(year = rep(years, each = length(ages)), age = rep(ages, length(years)),
                     probability_of_death = digits(1 - exp(-as.vector(hazard)))), "sire/popmort.csv", row.names = FALSE, quote = FALSE)
cuts <- list(ages * 365.241, as.numeric(as.Date(paste0(years, "-01-01"))))
table <- array(hazard / 365.241, c(length(ages), length(years), 1),
               dimnames = list(as.character(ages), as.character(years), "female"))
attributes(table) <- c(attributes(table), list(dimid = c("age", "year", "sex"), type = c(2, 3, 1),
                       cutpoints = list(cuts[[1]], as.Date(paste0(years, "-01-01")), NULL)))
class(table) <- "ratetable"
people$sexes <- "female"
people$year <- as.Date(people$dg_date)
write.csv(data.frame(person = seq_len(nrow(people)), diagnosis = people$year, age_days = people$age_days, days = people$days,
                     died = people$died, old = people$old, late = people$late), gzfile("sire/sire.csv.gz"),
          row.names = FALSE, quote = FALSE)
expected <- NULL
times <- c(30, 365, 730, 1826, 3000)
slices <- list(list("all", "all"), list("old", "old"), list("old", "young"), list("late", "early"), list("late", "late"))
for (slice in slices) {
  part <- if (slice[[1]] == "all") people else people[people[[slice[[1]]]] == slice[[2]], ]
  for (method in c("pohar-perme", "ederer2")) {
    fit <- rs.surv(Surv(days, died) ~ 1, data = part, ratetable = table, method = method, add.times = 1:max(part$days),
                   rmap = list(age = age_days, sex = sexes, year = year))
    found <- summary(fit, times = times[times <= max(part$days)])
    expected <- rbind(expected, data.frame(stratum = slice[[1]], level = slice[[2]],
      estimator = ifelse(method == "ederer2", "net_survival_ederer2", "net_survival_pohar_perme"), time_days = found$time,
      estimate = digits(found$surv), se = digits(found$std.err)))
  }
}
write.csv(expected, "sire/expected.csv", row.names = FALSE, quote = FALSE)
hazards <- data.frame(sex = popmort$sex, CAL = popmort$year, AGE = popmort$agegroup, haz = popmort$haz)
lex <- suppressMessages(Lexis(entry = list(FUT = 0, AGE = dg_age, CAL = get.yrs(dg_date)), exit = list(CAL = get.yrs(ex_date)),
  data = sire[sire$dg_date < sire$ex_date & sire$sex == 1, ], exit.status = factor(status > 0, c(FALSE, TRUE), 0:1), merge = TRUE))
own <- suppressMessages(survtab(FUT ~ 1, data = lex, pophaz = hazards, surv.type = "surv.rel", relsurv.method = "pp",
  surv.method = "hazard", breaks = list(FUT = seq(0, 5, 1 / 24))))
at <- sapply(c(1, 2, 5), function(year) which.min(abs(own$Tstop - year)))
write.csv(data.frame(year = c(1, 2, 5), estimate = digits(own$r.pp[at])), "sire/popepi.csv", row.names = FALSE, quote = FALSE)
